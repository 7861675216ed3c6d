package keys

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/keystore"
	"github.com/ethereum/go-ethereum/crypto"

	"souk/p2p/identity"
)

func word(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

// sealed is a keystore with an encrypted key.
func sealed(t *testing.T) (dir string, key *Key) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keystore")
	key, err := Create(dir, Seal{Passphrase: []byte("correct horse"), Strength: Light})
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return dir, key
}

func TestAKeyComesBack(t *testing.T) {
	for name, seal := range map[string]Seal{
		EncryptedFile: {Passphrase: []byte("correct horse"), Strength: Light},
		PlainFile:     {Plain: true},
	} {
		dir := filepath.Join(t.TempDir(), "keystore")
		made, err := Create(dir, seal)
		if err != nil {
			t.Fatalf("%s: Create: %v", name, err)
		}
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, fi.Mode(), err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("%s: %d files in the keystore, want 1", name, len(entries))
		}
		got, err := Open(dir, word("correct horse"))
		if err != nil {
			t.Fatalf("%s: Open: %v", name, err)
		}
		if got.Address() != made.Address() || got.Address().IsZero() || got.Path() != made.Path() {
			t.Errorf("%s: opened %s, want %s", name, got, made)
		}
		if got.Encrypted() != (name == EncryptedFile) {
			t.Errorf("%s: encrypted %v", name, got.Encrypted())
		}
		digest := identity.Keccak([]byte("hello"))
		sig, err := got.Sign(digest)
		if err != nil {
			t.Fatalf("%s: Sign: %v", name, err)
		}
		if by, err := (identity.Secp256k1{}).Recover(digest, sig); by != made.Address() || err != nil {
			t.Errorf("%s: signed by %s, %v; want %s", name, by, err, made)
		}
	}
}

func TestWalletsReadTheFile(t *testing.T) {
	_, key := sealed(t)
	content, err := os.ReadFile(key.Path())
	if err != nil {
		t.Fatal(err)
	}
	k, err := keystore.DecryptKey(content, "correct horse")
	if err != nil || identity.Address(k.Address) != key.Address() {
		t.Errorf("go-ethereum reads %v, %v; want %s", k, err, key)
	}
	var v3 struct {
		Version int
		Crypto  struct{ KDF, Cipher string }
	}
	if err := json.Unmarshal(content, &v3); err != nil || v3.Version != 3 || v3.Crypto.KDF != "scrypt" || v3.Crypto.Cipher != "aes-128-ctr" {
		t.Errorf("the file is %+v, %v", v3, err)
	}
}

// TestTheStandardVectorOpens opens the scrypt example of the Web3 secret storage definition.
// https://ethereum.org/en/developers/docs/data-structures-and-encoding/web3-secret-storage/
func TestTheStandardVectorOpens(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second and 256 MB")
	}
	const vector = `{"address":"008aeeda4d805471df9b2a5b0f38a0c3bcba786b","crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":{"dklen":32,"n":262144,"p":8,"r":1,"salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},"mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, EncryptedFile), []byte(vector), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := Open(dir, word("testpassword"))
	if err != nil {
		t.Fatal(err)
	}
	want := "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
	if got := fmt.Sprintf("%x", crypto.FromECDSA(key.ECDSA())); got != want {
		t.Errorf("key %s, want %s", got, want)
	}
}

func TestNoKeyIsWrittenOver(t *testing.T) {
	dir, key := sealed(t)
	for _, seal := range []Seal{{Passphrase: []byte("x"), Strength: Light}, {Plain: true}} {
		if _, err := Create(dir, seal); !errors.Is(err, ErrExists) {
			t.Errorf("Create over a key: %v, want ErrExists", err)
		}
	}
	if err := write(key.Path(), []byte("other")); !errors.Is(err, ErrExists) {
		t.Errorf("write over a key: %v, want ErrExists", err)
	}
	if got, err := Open(dir, word("correct horse")); err != nil || got.Address() != key.Address() {
		t.Errorf("afterwards Open gives %v, %v; want %s", got, err, key)
	}
}

func TestRefusals(t *testing.T) {
	asking := errors.New("nobody at the terminal")
	for _, c := range []struct {
		name string
		harm func(dir string, key *Key) error
		ask  func() ([]byte, error)
		want func(error) bool
	}{
		{"wrong passphrase", nil, word("wrong"), is(ErrPassphrase)},
		{"no passphrase", nil, nil, is(ErrPassphrase)},
		{"passphrase with a space more", nil, word("correct horse "), is(ErrPassphrase)},
		{"no answer", nil, func() ([]byte, error) { return nil, asking }, is(asking)},
		{"no file", func(_ string, k *Key) error { return os.Remove(k.Path()) }, word(""), is(ErrMissing)},
		{"no directory", func(dir string, _ *Key) error { return os.RemoveAll(dir) }, word(""), is(ErrMissing)},
		{"group may read", func(_ string, k *Key) error { return os.Chmod(k.Path(), 0o640) }, word("correct horse"), exposed},
		{"all may read", func(_ string, k *Key) error { return os.Chmod(k.Path(), 0o604) }, word("correct horse"), exposed},
		{"a link", func(dir string, k *Key) error {
			return errors.Join(os.Rename(k.Path(), filepath.Join(dir, "elsewhere")), os.Symlink(filepath.Join(dir, "elsewhere"), k.Path()))
		}, word("correct horse"), says("no regular file")},
		{"two keys", func(dir string, _ *Key) error { return write(filepath.Join(dir, PlainFile), []byte("{}")) }, word("correct horse"), says("two keys")},
		{"not JSON", rewrite(func(string) string { return "hello" }), word("correct horse"), damaged},
		{"empty", rewrite(func(string) string { return "" }), word("correct horse"), damaged},
		{"no crypto", rewrite(func(string) string {
			return `{"version":3,"address":"008aeeda4d805471df9b2a5b0f38a0c3bcba786b"}`
		}), word("correct horse"), damaged},
		{"a wrong type", replace(`"salt":"`, `"salt":1,"pepper":"`), word("correct horse"), damaged},
		{"another version", replace(`"version":3`, `"version":4`), word("correct horse"), damaged},
		{"another address", replace(`"address":"`, `"address":"00`), word("correct horse"), damaged},
		{"huge", rewrite(func(s string) string { return s + strings.Repeat(" ", fileLimit) }), word("correct horse"), damaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.HasSuffix(c.name, "may read") {
				t.Skip("Windows has no mode bits")
			}
			dir, key := sealed(t)
			if c.harm != nil {
				if err := c.harm(dir, key); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := Open(dir, c.ask); !c.want(err) {
				t.Errorf("Open: %v, %v", got, err)
			}
		})
	}
}

func TestAPlainKeyMustMatchItsAddress(t *testing.T) {
	dir := t.TempDir()
	key, err := Create(dir, Seal{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(key.Path())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "NOT ENCRYPTED") {
		t.Errorf("the plain file does not say so: %s", content)
	}
	other := strings.Replace(string(content), `"privatekey": "`, `"privatekey": "7`, 1)
	for _, bad := range []string{other, "{}", strings.Replace(string(content), key.Address().String(), "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b", 1)} {
		if err := os.WriteFile(key.Path(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, nil)
		if !damaged(err) {
			t.Errorf("Open of %q: %v, want *Damaged", bad, err)
		}
		if secret := fmt.Sprintf("%x", crypto.FromECDSA(key.ECDSA())); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestAKeyIsNotPrinted(t *testing.T) {
	_, key := sealed(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, key); got != key.Address().String() {
			t.Errorf("%s prints %q, want the address", verb, got)
		}
	}
}

func TestASealSaysOneThing(t *testing.T) {
	for _, seal := range []Seal{{}, {Plain: true, Passphrase: []byte("x")}} {
		dir := t.TempDir()
		if _, err := Create(dir, seal); err == nil {
			t.Errorf("Create with %+v passed", seal)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("Create with %+v left %v", seal, entries)
		}
	}
}

func TestAPassphraseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passphrase")
	if _, err := FromFile(path)(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing file: %v, want its name", err)
	}
	for _, c := range []struct{ content, want string }{
		{"correct horse\n", "correct horse"},
		{"correct horse\r\n", "correct horse"},
		{"correct horse", "correct horse"},
		{" two\n\n", " two\n"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := FromFile(path)(); string(got) != c.want || err != nil {
			t.Errorf("FromFile of %q = %q, %v; want %q", c.content, got, err, c.want)
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := FromFile(path)(); !exposed(err) {
			t.Errorf("an open file: %v, want *Exposed", err)
		}
	}
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
func exposed(err error) bool           { var e *Exposed; return errors.As(err, &e) }
func damaged(err error) bool           { var e *Damaged; return errors.As(err, &e) }
func says(text string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

func rewrite(change func(string) string) func(string, *Key) error {
	return func(_ string, k *Key) error {
		b, err := os.ReadFile(k.Path())
		if err != nil {
			return err
		}
		return os.WriteFile(k.Path(), []byte(change(string(b))), 0o600)
	}
}

func replace(old, new string) func(string, *Key) error {
	return rewrite(func(s string) string { return strings.Replace(s, old, new, 1) })
}
