package exec

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogKeepsTheNewestOutputWithinItsSize(t *testing.T) {
	folder := t.TempDir()
	l, err := openLog(folder)
	if err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	const lines = 400_000 // of 64 bytes: two and a half times the size of a file
	for i := range lines {
		fmt.Fprintf(&in, "%063d\n", i)
	}
	l.copy(1, &in)
	l.copy(2, strings.NewReader("no newline"))
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, name := range []string{logName, logOld} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 2*logSize {
		t.Errorf("%d bytes on disk, want at most %d", size, 2*logSize)
	}
	read := func(tail int) (string, string) {
		var out, errs bytes.Buffer
		if err := copyLog(context.Background(), folder, LogOptions{Tail: tail}, func() bool { return false }, &out, &errs); err != nil {
			t.Fatal(err)
		}
		return out.String(), errs.String()
	}
	if out, errs := read(3); out != fmt.Sprintf("%063d\n%063d\n", lines-2, lines-1) || errs != "no newline" {
		t.Errorf("tail 3: %q and %q", out, errs)
	}
	out, _ := read(0)
	if !strings.HasSuffix(out, fmt.Sprintf("%063d\n", lines-1)) || len(out) < logSize {
		t.Errorf("all: %d bytes ending with %q", len(out), out[max(0, len(out)-70):])
	}
}
