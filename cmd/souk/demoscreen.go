package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A screen is where the demo tells its story: what will be done in plain words, commands as a user types them, and what
// they answered, indented.
type screen struct {
	out     io.Writer
	color   bool
	width   int // columns
	begun   time.Time
	chapter int
}

// The looks of words.
const (
	lookTitle  = "1"    // bold
	lookPrompt = "1;36" // bold cyan
	lookSay    = "33"   // yellow
	lookBad    = "1;31" // bold red
)

func (s *screen) look(as, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + as + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// title begins a chapter.
func (s *screen) title(text string) {
	s.chapter++
	at := time.Since(s.begun).Round(time.Second)
	head := fmt.Sprintf("── %d  %s ", s.chapter, text)
	clock := fmt.Sprintf(" %d:%02d ──", int(at.Minutes()), int(at.Seconds())%60)
	rule := strings.Repeat("─", max(2, s.width-utf8.RuneCountInString(head)-utf8.RuneCountInString(clock)))
	s.line("\n%s", s.look(lookTitle, head+rule+clock))
}

// say explains, wrapped to the width.
func (s *screen) say(format string, args ...any) {
	var line strings.Builder
	flush := func() {
		s.line("%s", s.look(lookSay, line.String()))
		line.Reset()
	}
	s.line("")
	for _, word := range strings.Fields(fmt.Sprintf(format, args...)) {
		if line.Len() > 0 && utf8.RuneCountInString(line.String())+1+utf8.RuneCountInString(word) > s.width {
			flush()
		}
		if line.Len() > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(word)
	}
	flush()
}

// prompt shows a command on somebody's machine.
func (s *screen) prompt(who string, args []string) {
	words := make([]string, 0, len(args)+1)
	for _, a := range append([]string{"souk"}, args...) {
		words = append(words, quoted(a))
	}
	s.line("%s %s", s.look(lookPrompt, who+" $"), short(strings.Join(words, " ")))
}

// codes are invites: too long to be read.
var codes = regexp.MustCompile(`souk1[a-z0-9]{40,}`)

// short leaves the middle of invites out.
func short(line string) string {
	return codes.ReplaceAllStringFunc(line, func(code string) string { return code[:14] + "…" + code[len(code)-6:] })
}

// quoted is a word as a shell wants it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// answer is a writer for the output of a command. Close ends a last line without an end.
func (s *screen) answer() *indented { return &indented{to: s.out} }

// indented writes whole lines, two columns in. It takes the two outputs of one command at once.
type indented struct {
	mu   sync.Mutex
	to   io.Writer
	rest []byte
}

// Write implements io.Writer.
func (w *indented) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(w.to, "  %s\n", short(string(w.rest[:i]))); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
}

// Close ends the last line.
func (w *indented) Close() error {
	if len(w.rest) > 0 {
		_, err := w.Write([]byte{'\n'})
		return err
	}
	return nil
}
