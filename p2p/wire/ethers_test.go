package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"souk/ledger"
	"souk/node/keys"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// ethersDir holds a second implementation of the signed objects: ethers, an independent Ethereum library, and a script that
// knows of Souk only what docs/protocol says.
const ethersDir = "testdata/ethers"

// An ethersAsk is what the script is asked; what stays empty is not answered.
type ethersAsk struct {
	Market  map[string]any `json:"market"`
	Key     string         `json:"key,omitempty"`
	Objects []vector       `json:"objects,omitempty"`
	Vouch   *ethersVouch   `json:"vouch,omitempty"`
	Open    *ethersOpen    `json:"open,omitempty"`
	Keep    *ethersKeep    `json:"keep,omitempty"`
}

type (
	// An ethersVouch wants a voucher with these members, by the wallet of a phrase.
	ethersVouch struct {
		Phrase  string            `json:"phrase"`
		Members map[string]string `json:"members"`
	}
	// An ethersOpen wants the key in a keystore.
	ethersOpen struct {
		JSON       string `json:"json"`
		Passphrase string `json:"passphrase"`
	}
	// An ethersKeep wants a keystore for a key.
	ethersKeep struct {
		PrivateKey string `json:"privateKey"`
		Passphrase string `json:"passphrase"`
	}
)

// An ethersAnswer is what ethers says. Bytes are in hex, with 0x.
type ethersAnswer struct {
	Separator string `json:"separator"`
	Objects   []struct {
		Kind, Ref, Again, Digest, Signer      string
		Type, TypeHash, StructHash, Signature string // of typed data only
	} `json:"objects"`
	Voucher struct{ Signer, Payload, Signature string } `json:"voucher"`
	Opened  struct{ Address, PrivateKey string }        `json:"opened"`
	Kept    string                                      `json:"kept"`
}

// askEthers runs the script. Where it cannot run the test fails and says what to do about it; with SOUK_TEST_NO_NODE=1 or
// -short it is skipped there.
func askEthers(t *testing.T, ask ethersAsk) ethersAnswer {
	t.Helper()
	lacks, todo := ethersLacks()
	switch {
	case lacks != "" && (testing.Short() || os.Getenv("SOUK_TEST_NO_NODE") == "1"):
		t.Skipf("%s is missing: nothing is compared with ethers", lacks)
	case lacks != "":
		t.Fatalf("%s is missing: run %s (or set SOUK_TEST_NO_NODE=1 to go without the tests that ask ethers)", lacks, todo)
	}
	if ask.Market == nil {
		ask.Market = map[string]any{}
	}
	in, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command("node", "check.mjs")
	var out, why bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = ethersDir, bytes.NewReader(in), &out, &why
	if err := cmd.Run(); err != nil {
		t.Fatalf("node check.mjs: %v\n%s", err, why.Bytes())
	}
	var answer ethersAnswer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatalf("node check.mjs answers %q: %v", out.Bytes(), err)
	}
	return answer
}

// ethersLacks says what is missing for the script to run, and what would bring it.
func ethersLacks() (lacks, todo string) {
	// Reading them here lets the test's cache know what node will read.
	for _, name := range []string{"check.mjs", "kinds.mjs", "cbor.mjs", "package-lock.json"} {
		if _, err := os.ReadFile(filepath.Join(ethersDir, name)); err != nil {
			return name, "git checkout p2p/wire/" + ethersDir
		}
	}
	if _, err := osexec.LookPath("node"); err != nil {
		return "node", ".ci/setup test"
	}
	if _, err := os.ReadFile(filepath.Join(ethersDir, "node_modules/ethers/package.json")); err != nil {
		return "ethers", ".ci/setup test, or npm ci in p2p/wire/" + ethersDir
	}
	return "", ""
}

func askMarket(m wire.Market) map[string]any {
	return map[string]any{"id": m.ID, "chainId": m.ChainID, "contract": m.Contract}
}

// TestEthersReadsEveryKind gives ethers the bytes of an object of every kind, and nothing else of ours: domain, type, hashes
// and signer must be what we say they are, and the payload the one that it would have written itself.
func TestEthersReadsEveryKind(t *testing.T) {
	m, k := testMarket(), testKey(t)
	ask := ethersAsk{Market: askMarket(m), Key: strings.Repeat("46", 32)}
	all := samples(t)
	for _, s := range all {
		o, err := wire.Seal(m, k, s.msg)
		if err != nil {
			t.Fatal(err)
		}
		ask.Objects = append(ask.Objects, vector{Kind: o.Kind.String(), Payload: hex.EncodeToString(o.Payload),
			Signature: hex.EncodeToString(o.Sig[:])})
	}
	got := askEthers(t, ask)
	if want := "0x" + m.Separator().String(); got.Separator != want {
		t.Errorf("domain separator: ethers has %s, want %s", got.Separator, want)
	}
	if len(got.Objects) != len(all) {
		t.Fatalf("ethers read %d objects of %d", len(got.Objects), len(all))
	}
	for i, s := range all {
		o, a := ask.Objects[i], got.Objects[i]
		payload := wire.Marshal(s.msg)
		rows := []struct{ what, got, want string }{
			{"kind", a.Kind, o.Kind},
			{"payload", a.Again, "0x" + o.Payload},
			{"ref", a.Ref, "0x" + m.Ref(s.msg.Kind(), payload).String()},
			{"digest", a.Digest, "0x" + m.Digest(s.msg, payload).String()},
			{"signer", a.Signer, k.Address().String()},
		}
		if typed, ok := s.msg.(wire.TypedMessage); ok {
			d := typed.Typed()
			rows = append(rows, []struct{ what, got, want string }{
				{"type", a.Type, d.Type()},
				{"type hash", a.TypeHash, "0x" + identity.Keccak([]byte(d.Type())).String()},
				{"struct hash", a.StructHash, "0x" + d.Hash().String()},
				{"signature", a.Signature, "0x" + o.Signature},
			}...)
		}
		for _, r := range rows {
			if r.got != r.want {
				t.Errorf("%s: %s: ethers has %s, want %s", o.Kind, r.what, r.got, r.want)
			}
		}
	}
}

// The wallet whose owner pays: the first account of the phrase that Ethereum's own tools test with.
const (
	walletPhrase  = "test test test test test test test test test test test junk"
	walletAddress = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
)

// TestAWalletsVoucherIsPaid lets a wallet of ethers make and sign a voucher that the bank then settles.
func TestAWalletsVoucherIsPaid(t *testing.T) {
	k := testKey(t)
	charter := member.Charter{Salt: wire.ID{1}, Name: "wallets", ChainID: member.DefaultChainID, Operators: []identity.PublicKey{k.Public()},
		Threshold: 1, Slot: 60}
	m, policy := charter.Market(), member.DefaultPolicy(k.Address(), 0)
	wallet, err := identity.ParseAddress(walletAddress)
	if err != nil {
		t.Fatal(err)
	}
	bank, host, now := ledger.NewBank(k.Address(), charter), identity.Address{7}, 1000*member.Hour
	if _, err := bank.Deposit(policy, wallet, 25*ledger.Credit, "wire 1", now); err != nil {
		t.Fatal(err)
	}
	ask := ledger.Reserve{Consumer: wallet, Reservation: wire.ID{2}, Lease: wire.ID{3}, Host: host, By: wallet,
		Cap: 10 * ledger.Credit, MaxRate: 600_000_000}
	if _, err := bank.Reserve(policy, ask, ask.MaxRate, now); err != nil {
		t.Fatal(err)
	}
	u := ledger.Usage{Host: host, Lease: ask.Lease, Seq: 1, First: 60_001, Count: 1, Billable: 1, Status: ledger.StatusRunning,
		Basis: ledger.BasisAttended, Start: identity.Hash{1}, Numerator: 60 * 600_000_000, Prev: identity.Hash{2}}
	usage := m.Ref(wire.KindUsage, wire.Marshal(u))
	got := askEthers(t, ethersAsk{Market: askMarket(m), Vouch: &ethersVouch{Phrase: walletPhrase, Members: map[string]string{
		"reservation": "0x" + ask.Reservation.String(), "lease": "0x" + ask.Lease.String(), "host": host.String(),
		"total": fmt.Sprint(int64(u.Owed())), "minute": fmt.Sprint(uint64(u.Last())), "usage": "0x" + usage.String(),
		"sequence": fmt.Sprint(u.Seq), "extension": "0x" + identity.Hash{}.String(),
	}}}).Voucher

	o := wire.Object{Kind: wire.KindVoucher, Payload: unhex0x(t, got.Payload), Sig: identity.Signature(unhex0x(t, got.Signature))}
	v, err := wire.Open[ledger.Voucher](wire.Opener{Market: m, Verifier: identity.Secp256k1{}}, o)
	if err != nil || v.By() != wallet {
		t.Fatalf("the wallet's voucher opens as of %v, %v; want %v", v.By(), err, wallet)
	}
	r, err := bank.Settle(policy, v.Value(), u, now+member.Hour)
	if err != nil || r.Paid != 10_000_000 || r.Voucher != v.Ref() {
		t.Errorf("settled %+v, %v; want 10000000 paid on %v", r, err, v.Ref())
	}
	o.Sig[64] ^= 27 ^ 28
	if _, err := wire.Open[ledger.Voucher](wire.Opener{Market: m, Verifier: identity.Secp256k1{}}, o); err == nil {
		t.Error("the voucher opens with another v")
	}
}

// TestKeystoresOpenBothWays gives a node's key file to ethers, and a key file of ethers to a node.
func TestKeystoresOpenBothWays(t *testing.T) {
	const passphrase = "correct horse, Käse" // not ASCII alone
	dir := filepath.Join(t.TempDir(), "keystore")
	key, err := keys.Create(dir, keys.Seal{Passphrase: []byte(passphrase), Strength: keys.Light})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(key.Path())
	if err != nil {
		t.Fatal(err)
	}
	theirs := "0x" + strings.Repeat("46", 32)
	got := askEthers(t, ethersAsk{Open: &ethersOpen{string(file), passphrase}, Keep: &ethersKeep{theirs, passphrase}})
	secret := fmt.Sprintf("0x%064x", key.ECDSA().D)
	if got.Opened.Address != key.Address().String() || got.Opened.PrivateKey != secret {
		t.Errorf("ethers finds another key of %s than the node's, of %s", got.Opened.Address, key.Address())
	}

	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keys.EncryptedFile), []byte(got.Kept), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := keys.Open(dir, func() ([]byte, error) { return []byte(passphrase), nil })
	if err != nil {
		t.Fatal(err)
	}
	if want := testKey(t); opened.Address() != want.Address() || !opened.ECDSA().Equal(want.ECDSA()) {
		t.Errorf("the node finds the key of %s, want %s", opened.Address(), want.Address())
	}
}

// TestTheLockNamesNoRegistry keeps the lock file usable with any registry, and ethers at one version.
func TestTheLockNamesNoRegistry(t *testing.T) {
	var manifest struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	var lock struct {
		Packages map[string]struct{ Version, Resolved, Integrity string } `json:"packages"`
	}
	for name, to := range map[string]any{"package.json": &manifest, "package-lock.json": &lock} {
		b, err := os.ReadFile(filepath.Join(ethersDir, name))
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if got, want := lock.Packages["node_modules/ethers"].Version, manifest.Dependencies["ethers"]; got != want || !strings.HasPrefix(want, "6.") {
		t.Errorf("ethers is locked at %q, asked for as %q; want one exact version 6", got, want)
	}
	for name, p := range lock.Packages {
		if p.Resolved != "" || name != "" && p.Integrity == "" {
			t.Errorf("the lock says %q comes from %q, with hash %q; want no address, and a hash", name, p.Resolved, p.Integrity)
		}
	}
}

func unhex0x(t *testing.T, s string) []byte {
	t.Helper()
	return unhex(t, strings.TrimPrefix(s, "0x"))
}
