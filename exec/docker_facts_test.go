package exec

import (
	"os"
	"path/filepath"
	"testing"
)

func TestQuotasAreThoseOfTheFoldersFileSystem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mounts")
	if err := os.WriteFile(file, []byte("/dev/a / ext4 rw,prjquota 0 0\n/dev/b /srv xfs rw,relatime,prjquota 0 0\n/dev/c /srv/docker/x xfs rw,pquota 0 0\n/dev/d /srv2 xfs rw,noquota 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"/srv/docker": true, "/srv/docker/x/y": true, "/srv2/docker": false, "/var/lib/docker": true, "/srv": true} {
		if got := quotas(file, dir); got != want {
			t.Errorf("%s: got %v, want %v", dir, got, want)
		}
	}
	if quotas(filepath.Join(t.TempDir(), "none"), "/") {
		t.Error("without a list of mounts there are quotas")
	}
}
