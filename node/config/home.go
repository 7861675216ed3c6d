package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"souk/p2p/identity"
)

// socketMost is how long a unix socket's path may be, bytes: systems allow 103 or 107, and it is made under a longer name.
const socketMost = 90

// Keystore is the folder of the key.
func (c Config) Keystore() string { return filepath.Join(c.Home, "keystore") }

// PodsDir is the folder of pods that are plain processes.
func (c Config) PodsDir() string { return filepath.Join(c.Home, "pods") }

// LogFile is where a node in the background writes.
func (c Config) LogFile() string { return filepath.Join(c.Home, "souk.log") }

// PIDFile names the process of a node in the background.
func (c Config) PIDFile() string { return filepath.Join(c.Home, "souk.pid") }

// Socket is the path of the API's unix socket: api_socket, else souk.sock in the home. A path that is too long for a
// socket gives one made of its hash, in a folder of this user whose name follows from nothing but the user: a node and a
// command line that were started in different environments must mean the same. api.Listen makes the folder, or refuses one
// that is somebody else's.
func (c Config) Socket() string {
	path := c.APISocket
	if path == "" {
		path = "souk.sock"
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Home, path)
	}
	if len(path) <= socketMost {
		return path
	}
	hash := identity.Keccak([]byte(path))
	return filepath.Join(socketDir(), hex.EncodeToString(hash[:8])+".sock")
}

// Passphrase is the path of the passphrase file, if there is one.
func (c Config) Passphrase() string {
	if c.PassphraseFile == "" || filepath.IsAbs(c.PassphraseFile) {
		return c.PassphraseFile
	}
	return filepath.Join(c.Home, c.PassphraseFile)
}

// WritePID notes the process of a node in the background.
func (c Config) WritePID(pid int) error {
	return WriteFile(c.PIDFile(), []byte(strconv.Itoa(pid)+"\n"))
}

// PID is the process noted, or 0 when none is.
func (c Config) PID() (int, error) {
	b, err := os.ReadFile(c.PIDFile())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("config: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("config: %s holds no process number", c.PIDFile())
	}
	return pid, nil
}

// RemovePID forgets the process, if it is the one noted.
func (c Config) RemovePID(pid int) {
	if noted, err := c.PID(); err == nil && noted == pid {
		os.Remove(c.PIDFile())
	}
}
