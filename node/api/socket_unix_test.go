//go:build unix

package api_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"souk/node/api"
)

const nobody = 65534

func TestFolderOfOthersIsRefused(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(filepath.Join(open, "s")); !errors.Is(err, api.ErrForeign) {
		t.Errorf("in a folder where anybody writes: got %v; want %v", err, api.ErrForeign)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	theirs := filepath.Join(t.TempDir(), "theirs")
	link := filepath.Join(t.TempDir(), "link")
	err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, nobody, nobody), os.Symlink(t.TempDir(), link), os.Lchown(link, nobody, nobody))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{theirs, link} {
		if _, err := api.Listen(filepath.Join(dir, "s")); !errors.Is(err, api.ErrForeign) {
			t.Errorf("in another user's %s: got %v; want %v", filepath.Base(dir), err, api.ErrForeign)
		}
	}
}

func TestSocketOfOthersIsNotAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a socket away")
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := api.NewClient(path)
	if !c.Up(t.Context()) {
		t.Fatalf("this user's own socket is not asked")
	}
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, api.ErrForeign) {
		t.Errorf("got %v; want %v", err, api.ErrForeign)
	}
}
