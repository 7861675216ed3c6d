package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"souk/node/config"
	"souk/node/keys"
)

// passFlags say where the key's passphrase comes from.
type passFlags struct {
	file  string
	none  bool // a new key is not encrypted
	stdin bool // the passphrase is all of standard input: how 'up -d' hands it on
}

// readMost bounds a passphrase on standard input, bytes.
const readMost = 4096

func (p *passFlags) add(cmd *cobra.Command, creates bool) {
	f := cmd.Flags()
	f.StringVar(&p.file, "passphrase-file", "", "file with the key's passphrase (default $SOUK_PASSPHRASE_FILE)")
	if creates {
		f.BoolVar(&p.none, "no-passphrase", false, "keep a new key unencrypted: for testnets and machines that start alone")
	}
}

// path is the passphrase file that flag or environment name.
func (p *passFlags) path() string {
	if p.file != "" {
		return p.file
	}
	return os.Getenv("SOUK_PASSPHRASE_FILE")
}

// source asks for the passphrase of an existing key.
func (p *passFlags) source(e *env, cfg config.Config) func() ([]byte, error) {
	switch {
	case p.stdin:
		return func() ([]byte, error) { return io.ReadAll(io.LimitReader(e.in, readMost)) }
	case p.path() != "":
		return keys.FromFile(p.path())
	case cfg.Passphrase() != "":
		return keys.FromFile(cfg.Passphrase())
	}
	return func() ([]byte, error) { return e.secret("passphrase of the key: ") }
}

// seal says how a new key is to be kept.
func (p *passFlags) seal(e *env) (keys.Seal, error) {
	switch {
	case p.none && p.path() != "":
		return keys.Seal{}, usageError("", "--no-passphrase and a passphrase file say different things")
	case p.none:
		return keys.Seal{Plain: true}, nil
	case p.path() != "":
		word, err := keys.FromFile(p.path())()
		if err == nil && len(word) == 0 {
			err = usageError("", "%s is empty", p.path())
		}
		return keys.Seal{Passphrase: word}, err
	}
	word, err := e.secret("choose a passphrase for the key of this node: ")
	if err != nil {
		return keys.Seal{}, err
	}
	again, err := e.secret("the same again: ")
	switch {
	case err != nil:
		return keys.Seal{}, err
	case len(word) == 0:
		return keys.Seal{}, usageError("--no-passphrase keeps the key unencrypted", "the passphrase is empty")
	case !bytes.Equal(word, again):
		return keys.Seal{}, usageError("", "the two passphrases differ")
	}
	return keys.Seal{Passphrase: word}, nil
}

// secret reads a line without echo. When the user interrupts it gives up, and the terminal echoes again.
func (e *env) secret(prompt string) ([]byte, error) {
	f, ok := e.in.(*os.File)
	if !ok || !e.asks {
		return nil, usageError("give --passphrase-file FILE; for a new key, or --no-passphrase", "the key wants a passphrase, and there is no terminal to ask on")
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(e.err, prompt)
	defer fmt.Fprintln(e.err)
	var word []byte
	read := make(chan error, 1)
	go func() {
		w, err := term.ReadPassword(fd)
		word = w
		read <- err
	}()
	select {
	case err := <-read:
		return word, err
	case <-e.stopped:
		return nil, errors.Join(context.Canceled, term.Restore(fd, before))
	}
}

// openKey opens the key of a home.
func (e *env) openKey(cfg config.Config, p *passFlags) (*keys.Key, error) {
	return keys.Open(cfg.Keystore(), p.source(e, cfg))
}

// makeKey opens the key of a home, or makes one.
func (e *env) makeKey(cfg *config.Config, p *passFlags) (*keys.Key, error) {
	k, err := e.openKey(*cfg, p)
	if !errors.Is(err, keys.ErrMissing) {
		return k, err
	}
	seal, err := p.seal(e)
	if err != nil {
		return nil, err
	}
	if f := p.path(); f != "" && cfg.PassphraseFile == "" {
		if cfg.PassphraseFile, err = filepath.Abs(f); err != nil {
			return nil, err
		}
	}
	return keys.Create(cfg.Keystore(), seal)
}
