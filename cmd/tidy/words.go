package main

import (
	"bytes"
	"fmt"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkComment wants one package comment in every package, and that it begins with the package's name.
func checkComment(p Package) []Problem {
	var with []File
	code := false
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		code = true
		if f.Syntax.Doc != nil && f.Syntax.Doc.Text() != "" {
			with = append(with, f)
		}
	}
	if !code {
		return nil
	}
	switch len(with) {
	case 0:
		return []Problem{{p.Dir, 0, "no package comment (an empty line before package cuts it off)"}}
	case 1:
	default:
		return []Problem{{with[1].Path, 0, fmt.Sprintf("a second package comment, after %s", with[0].Path)}}
	}
	f := with[0]
	begin := "Package " + f.Syntax.Name.Name
	if f.Syntax.Name.Name == "main" {
		begin = "Command " + path.Base(p.Dir)
	}
	text := f.Syntax.Doc.Text()
	rest, ok := strings.CutPrefix(text, begin)
	if !ok || rest != "" && !strings.ContainsAny(rest[:1], " \n.,:;") {
		return []Problem{{f.Path, 0, fmt.Sprintf("the package comment begins %q, want %q", firstWords(text), begin)}}
	}
	return nil
}

func firstWords(s string) string {
	fields := strings.Fields(s)
	return strings.Join(fields[:min(2, len(fields))], " ")
}

// checkFormat wants every file as gofmt prints it.
func checkFormat(p Package) []Problem {
	var ps []Problem
	for _, f := range p.Files {
		if out, err := format.Source(f.Source); err != nil || !bytes.Equal(out, f.Source) {
			ps = append(ps, Problem{f.Path, 0, "not gofmt'ed"})
		}
	}
	return ps
}

// machinePath is an absolute path of the kind that holds on one machine only. The account's own .ssh inside a pod is not
// one.
var machinePath = regexp.MustCompile(`(?:^|[^\w./~:-])(/(?:work|root)/[\w.-]*)`)

// checkPaths refuses machine paths in code, comments, scripts, test data and documents.
func checkPaths(t *Tree) []Problem {
	texts := map[string]string{}
	for name, text := range t.Texts {
		texts[name] = text
	}
	for _, p := range t.Packages {
		for _, f := range p.Files {
			texts[f.Path] = string(f.Source)
		}
	}
	var ps []Problem
	for name, text := range texts {
		n := 0
		for line := range strings.Lines(text) {
			n++
			m := machinePath.FindStringSubmatch(line)
			if m == nil || strings.HasSuffix(m[1], "/.ssh") {
				continue
			}
			ps = append(ps, Problem{name, n, fmt.Sprintf("names a path of one machine: %q", m[1])})
		}
	}
	slices.SortFunc(ps, func(a, b Problem) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return ps
}
