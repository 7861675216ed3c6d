package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockDir takes the home for this process. The operating system frees it when the process ends, however it ends; the pid
// in the file is for people.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: locking the home: %w", err)
	}
	ok, err := tryLock(f)
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("store: locking the home: %w", err), f.Close())
	case !ok:
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // a missing pid is no reason to hide the refusal
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, errors.Join(&Locked{Dir: dir, PID: pid}, f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: locking the home: %w", err), f.Close())
	}
	return f, nil
}
