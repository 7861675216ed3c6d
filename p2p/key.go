package p2p

import (
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"
	lcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"souk/p2p/identity"
)

// PeerID is the libp2p name of a key. It fails with identity.ErrKey when the bytes are no key.
func PeerID(pub identity.PublicKey) (peer.ID, error) {
	k, err := lcrypto.UnmarshalSecp256k1PublicKey(pub[:])
	if err != nil {
		return "", fmt.Errorf("%w: %x", identity.ErrKey, pub[:])
	}
	return peer.IDFromPublicKey(k)
}

// PublicKey is the key that a libp2p name carries. It fails with identity.ErrKey for names of other kinds of keys.
func PublicKey(id peer.ID) (identity.PublicKey, error) {
	k, err := id.ExtractPublicKey()
	if err != nil || k.Type() != lcrypto.Secp256k1 {
		return identity.PublicKey{}, fmt.Errorf("%w: peer %s", identity.ErrKey, id)
	}
	raw, err := k.Raw()
	if err != nil || len(raw) != len(identity.PublicKey{}) {
		return identity.PublicKey{}, fmt.Errorf("%w: peer %s", identity.ErrKey, id)
	}
	return identity.PublicKey(raw), nil
}

// Located is the key that a multiaddr with a /p2p/ID names. It fails with identity.ErrKey where it names none.
func Located(addr string) (identity.PublicKey, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return identity.PublicKey{}, fmt.Errorf("%w: %w", identity.ErrKey, err)
	}
	return PublicKey(info.ID)
}

// who is the key and address of a libp2p name.
func who(id peer.ID) (identity.PublicKey, identity.Address, error) {
	k, err := PublicKey(id)
	if err != nil {
		return k, identity.Address{}, err
	}
	a, err := k.Address()
	return k, a, err
}

// privateKey is the node's key as libp2p wants it.
func privateKey(k *identity.PrivateKey) (lcrypto.PrivKey, error) {
	return lcrypto.UnmarshalSecp256k1PrivateKey(crypto.FromECDSA(k.ECDSA()))
}
