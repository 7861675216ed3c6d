//go:build crashtest

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// points are the names of all crash points in this folder's sources.
func points(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`crash\.Here\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	slices.Sort(names)
	return names
}

// TestDyingAtEveryPoint kills a node at the first passings of every crash point, and looks at what it left.
func TestDyingAtEveryPoint(t *testing.T) {
	names := points(t)
	if len(names) < 20 || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Fatalf("crash points %q: too few, or one name twice", names)
	}
	deaths := 0
	defer func() {
		t.Logf("crash: a store killed %d times at %d points and started again: 0 acknowledged batches lost, 0 there by half", deaths, len(names))
	}()
	for _, name := range names {
		for passing := 1; passing <= 3; passing++ {
			t.Run(fmt.Sprintf("%s:%d", name, passing), func(t *testing.T) {
				dir := t.TempDir()
				var acknowledged uint64
				if strings.HasPrefix(name, "replay.") {
					if passing > 1 {
						t.Skip("a start replays once")
					}
					acknowledged, _ = child(t, dir, 0, "SOUK_CRASH=index.write:2")
				}
				env := []string{fmt.Sprintf("SOUK_CRASH=%s:%d", name, passing)}
				switch kind, _, _ := strings.Cut(name, "."); kind {
				case "renew":
					if passing > 1 && name != "renew.aside" || passing > 2 {
						t.Skip("a start renews once, and puts two things aside")
					}
					acknowledged, _ = child(t, dir, 300)
					spoil(t, segmentFiles(t, dir)[0].path, segmentHeader+60)
				case "backup":
					if passing > 1 {
						t.Skip("one backup")
					}
					env = append(env, childBackup+"="+filepath.Join(t.TempDir(), "b"))
				}
				last, state := child(t, dir, 0, env...)
				if !strings.Contains(state.String(), "killed") {
					t.Fatalf("the child ended with %s: it never passed there", state)
				}
				deaths++
				acknowledged = max(acknowledged, last)
				whole(t, dir, acknowledged)
				more, _ := child(t, dir, 30) // and life goes on
				whole(t, dir, max(acknowledged, more))
			})
		}
	}
}
