package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"souk/node/api"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/store"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// Backup writes what this node has durable now to a file, or into a folder under a name of its own.
func (b backend) Backup(_ context.Context, path string) (api.Backup, error) {
	return BackUp(b.store, b.self, path, b.opts.Version)
}

// BackUp writes a backup of a store.
func BackUp(s *store.Store, self identity.Address, path, version string) (api.Backup, error) {
	ids, err := s.Charters()
	if err != nil {
		return api.Backup{}, err
	}
	at := now()
	m := store.Manifest{Key: self.String(), At: int64(at), Program: version}
	if len(ids) > 0 {
		m.Market = hex.EncodeToString(ids[0][:])
	}
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		path = filepath.Join(path, fmt.Sprintf("souk-%s-%s.backup", self.String()[2:10], time.UnixMilli(int64(at)).UTC().Format("20060102T150405.000Z")))
	}
	m, err = s.BackupFile(path, m)
	switch {
	case errors.Is(err, fs.ErrExist):
		return api.Backup{}, step.Fail(step.ProblemConflict, "name another file, or a folder", "%s is there already", path)
	case err != nil:
		return api.Backup{}, step.Fail(step.ProblemOther, "", "the backup cannot be written: %v", err)
	}
	return api.Backup{Path: path, Key: self, Market: m.Market, At: at, Frame: m.Frame, Rows: m.Rows, Chains: m.Guards}, nil
}

// Restore puts a backup into the home of a node that is down, and the node into quarantine.
func Restore(home string, self identity.Address, path string, force bool) (api.Backup, error) {
	m, err := store.ReadBackup(path)
	if err == nil {
		err = mayRestore(home, self, m, force)
	}
	if err == nil {
		m, err = store.Restore(home, path, force, func(m store.Manifest) []store.Row {
			at := member.Time(m.At)
			r := core.QuarantineRow(fmt.Sprintf("restored from a backup of %v; what was signed after it is not known here", at), at)
			return []store.Row{{Key: r.Key, Value: r.Value}}
		})
	}
	switch {
	case errors.Is(err, store.ErrOccupied):
		return api.Backup{}, step.Fail(step.ProblemConflict, "with --force the ledger that is there is put aside; it knows more than any backup: restore only over one that is damaged",
			"there is a ledger in %s", home)
	case errors.Is(err, store.ErrNoBackup):
		return api.Backup{}, step.Fail(step.ProblemVerify, "take another one", "%s: %v", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return api.Backup{}, step.Fail(step.ProblemNotFound, "", "%v", err)
	case err != nil:
		return api.Backup{}, err
	}
	return api.Backup{Path: path, Key: self, Market: m.Market, At: member.Time(m.At), Frame: m.Frame, Rows: m.Rows, Chains: m.Guards}, nil
}

// mayRestore refuses a backup of another key, or of another market than that of the home.
func mayRestore(home string, self identity.Address, m store.Manifest, force bool) error {
	if m.Key != self.String() {
		return step.Fail(step.ProblemTrust, "each key has its own ledger", "the backup is of the key %s, this home's is %s", m.Key, self)
	}
	if list, err := filepath.Glob(filepath.Join(home, "journal", "*.journal")); err != nil || len(list) == 0 || !force {
		return err
	}
	s, err := store.Open(home, store.Options{Log: quiet(), MinFree: -1})
	if locked := (*store.Locked)(nil); errors.As(err, &locked) {
		return err
	}
	if err != nil {
		return nil // damaged: what it is of cannot be asked
	}
	ids, err := s.Charters()
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if len(ids) > 0 && hex.EncodeToString(ids[0][:]) != m.Market {
		return step.Fail(step.ProblemTrust, "a key and its ledger belong to one market", "the backup is of another market than this home")
	}
	return nil
}
