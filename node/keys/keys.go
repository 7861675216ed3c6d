// Package keys makes and keeps the one secp256k1 key that a node is.
//
// The key lies in a directory of its own, keystore/ in the node's home, as one of two files:
//
//	key.json   Web3 keystore v3, encrypted with scrypt and a passphrase: any Ethereum wallet can read it
//	key.plain  the bare key, for machines that must start without anybody: only when asked for
//
// Whoever has the key is the node: its money, its leases, its name. So a file that others could read is refused, not
// repaired, and no file is ever written over another. Both hold the address too, which the key must match.
//
// Where a passphrase comes from is the caller's business: a file (FromFile), a prompt, anything that returns bytes. It is
// asked for only when the file is encrypted.
package keys

import (
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/uuid"

	"souk/p2p/identity"
)

// The names of the two files.
const (
	EncryptedFile = "key.json"
	PlainFile     = "key.plain"
)

// fileLimit bounds what is read: a key file has about 500 bytes, a passphrase fewer.
const fileLimit = 16 << 10

// Errors that callers test with errors.Is.
var (
	ErrMissing    = errors.New("keys: there is no key")
	ErrExists     = errors.New("keys: there is a key already")
	ErrPassphrase = errors.New("keys: wrong passphrase")
)

// Exposed refuses a file that others than its owner may read or write.
type Exposed struct {
	Path string
	Mode fs.FileMode
}

func (e *Exposed) Error() string {
	return fmt.Sprintf("keys: %s is open to others (mode %04o); make it 0600, and think about who may have read it", e.Path, e.Mode.Perm())
}

// Damaged refuses a key file that does not hold what it says.
type Damaged struct {
	Path   string
	Reason string
}

func (e *Damaged) Error() string { return fmt.Sprintf("keys: %s is damaged: %s", e.Path, e.Reason) }

// A Strength says how long it takes to try one passphrase.
type Strength int

// The strengths of go-ethereum's keystore.
const (
	Standard Strength = iota // 256 MB and about a second: for keys of value
	Light                    // 4 MB and about 100 ms: for tests and small machines
)

func (s Strength) scrypt() (n, p int) {
	if s == Light {
		return keystore.LightScryptN, keystore.LightScryptP
	}
	return keystore.StandardScryptN, keystore.StandardScryptP
}

// A Seal says how a new key is kept: under a passphrase, or Plain. The zero Seal is neither, and is refused.
type Seal struct {
	Passphrase []byte
	Strength   Strength
	Plain      bool // no encryption; the passphrase must be empty
}

func (s Seal) validate() error {
	switch {
	case s.Plain && len(s.Passphrase) > 0:
		return errors.New("keys: a plain key has no passphrase")
	case !s.Plain && len(s.Passphrase) == 0:
		return errors.New("keys: the passphrase is empty")
	}
	return nil
}

// A Key is the node's key, opened. It is an identity.Signer.
type Key struct {
	*identity.PrivateKey
	path string
}

// Path is the file that holds the key.
func (k *Key) Path() string { return k.path }

// Encrypted reports whether the file needs a passphrase.
func (k *Key) Encrypted() bool { return filepath.Base(k.path) == EncryptedFile }

// String is the address, never the key.
func (k *Key) String() string { return k.Address().String() }

// GoString is String, lest %#v print the key.
func (k *Key) GoString() string { return k.String() }

// Create makes a new key and keeps it in dir, which it creates if needed, as seal says. It fails with ErrExists when dir
// has a key. After a crash there is the whole file or none.
func Create(dir string, seal Seal) (*Key, error) {
	if err := seal.validate(); err != nil {
		return nil, err
	}
	if path, err := find(dir); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrExists, path)
	} else if !errors.Is(err, ErrMissing) {
		return nil, err
	}
	secret, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("keys: drawing a key: %w", err)
	}
	name, content, err := encode(secret, seal)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: making the keystore: %w", err)
	}
	path := filepath.Join(dir, name)
	if err := write(path, content); err != nil {
		return nil, err
	}
	return wrap(secret, path)
}

// Open reads the key in dir. It calls passphrase, once, only when the key is encrypted; nil is as good as an empty one. It
// fails with ErrMissing, ErrPassphrase, *Exposed or *Damaged.
func Open(dir string, passphrase func() ([]byte, error)) (*Key, error) {
	path, err := find(dir)
	if err != nil {
		return nil, err
	}
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	if filepath.Base(path) == PlainFile {
		return openPlain(path, content)
	}
	var word []byte
	if passphrase != nil {
		if word, err = passphrase(); err != nil {
			return nil, fmt.Errorf("keys: asking for the passphrase: %w", err)
		}
	}
	return openEncrypted(path, content, word)
}

// FromFile is a passphrase source that reads a file, which only its owner may read. One line end after the passphrase
// does not count.
func FromFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		b, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("keys: there is no passphrase file %s", path)
		}
		if err != nil {
			return nil, err
		}
		return []byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")), nil
	}
}

// find gives the one key file in dir.
func find(dir string) (string, error) {
	var found []string
	for _, name := range []string{EncryptedFile, PlainFile} {
		path := filepath.Join(dir, name)
		switch _, err := os.Lstat(path); {
		case err == nil:
			found = append(found, path)
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("keys: looking for the key: %w", err)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w in %s", ErrMissing, dir)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("keys: %s has two keys, %s and %s; move one away", dir, EncryptedFile, PlainFile)
}

// read gives the content of a small private file. The mode is asked of the opened file, so that nobody can exchange it in
// between.
func read(path string) ([]byte, error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("keys: %s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keys: opening a private file: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keys: opening a private file: %w", err)
	}
	if runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 { // Windows keeps rights elsewhere
		return nil, &Exposed{Path: path, Mode: fi.Mode()}
	}
	b, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("keys: reading a private file: %w", err)
	case len(b) > fileLimit:
		return nil, &Damaged{Path: path, Reason: fmt.Sprintf("it has more than %d bytes", fileLimit)}
	}
	return b, nil
}

// write makes the file durable with its whole content, and fails with ErrExists rather than replace another.
func write(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keys: writing the key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keys: writing the key: %w", err)
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	if err == nil && runtime.GOOS != "windows" { // where a directory cannot be synced, and need not
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("keys: writing the key: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A plain is the content of key.plain.
type plain struct {
	Warning    string           `json:"warning"`
	Address    identity.Address `json:"address"`
	PrivateKey string           `json:"privatekey"`
}

const warning = "NOT ENCRYPTED: whoever reads this file owns this node and its credits"

func encode(secret *ecdsa.PrivateKey, seal Seal) (name string, content []byte, err error) {
	address := crypto.PubkeyToAddress(secret.PublicKey)
	if seal.Plain {
		content, err = json.MarshalIndent(plain{
			Warning:    warning,
			Address:    identity.Address(address),
			PrivateKey: hex.EncodeToString(crypto.FromECDSA(secret)),
		}, "", "  ")
		name, content = PlainFile, append(content, '\n')
	} else {
		n, p := seal.Strength.scrypt()
		k := keystore.Key{Id: uuid.New(), Address: address, PrivateKey: secret}
		content, err = keystore.EncryptKey(&k, string(seal.Passphrase), n, p)
		name = EncryptedFile
	}
	if err != nil {
		return "", nil, fmt.Errorf("keys: encoding the key: %w", err)
	}
	return name, content, nil
}

func openPlain(path string, content []byte) (*Key, error) {
	var p plain
	if err := json.Unmarshal(content, &p); err != nil {
		return nil, &Damaged{Path: path, Reason: err.Error()}
	}
	secret, err := crypto.HexToECDSA(p.PrivateKey)
	if err != nil {
		return nil, &Damaged{Path: path, Reason: "it holds no key"} // never the reason: it may quote the key
	}
	return match(secret, p.Address, path)
}

func openEncrypted(path string, content, passphrase []byte) (*Key, error) {
	var claim struct{ Address string }
	if err := json.Unmarshal(content, &claim); err != nil {
		return nil, &Damaged{Path: path, Reason: err.Error()}
	}
	if !common.IsHexAddress(claim.Address) {
		return nil, &Damaged{Path: path, Reason: "it names no address"}
	}
	secret, err := decrypt(content, passphrase)
	switch {
	case errors.Is(err, keystore.ErrDecrypt):
		return nil, fmt.Errorf("%w for %s", ErrPassphrase, path)
	case err != nil:
		return nil, &Damaged{Path: path, Reason: err.Error()}
	}
	return match(secret, identity.Address(common.HexToAddress(claim.Address)), path)
}

// decrypt is keystore.DecryptKey, which panics on fields of a wrong type.
func decrypt(content, passphrase []byte) (secret *ecdsa.PrivateKey, err error) {
	defer func() {
		if p := recover(); p != nil {
			secret, err = nil, fmt.Errorf("it does not follow Web3 keystore v3: %v", p)
		}
	}()
	k, err := keystore.DecryptKey(content, string(passphrase))
	if err != nil {
		return nil, err
	}
	return k.PrivateKey, nil
}

// match checks that the key is that of the address which its file names.
func match(secret *ecdsa.PrivateKey, claim identity.Address, path string) (*Key, error) {
	k, err := wrap(secret, path)
	if err != nil {
		return nil, err
	}
	if k.Address() != claim {
		return nil, &Damaged{Path: path, Reason: fmt.Sprintf("it names %s and holds the key of %s", claim, k.Address())}
	}
	return k, nil
}

func wrap(secret *ecdsa.PrivateKey, path string) (*Key, error) {
	k, err := identity.NewPrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &Key{PrivateKey: k, path: path}, nil
}
