package main

import (
	"fmt"
	"go/ast"
	"strings"
)

// Sizes from which a second thought is due.
const (
	longFile   = 500 // lines
	longFunc   = 70  // lines, from func to the closing brace
	fullFolder = 14  // files without tests: "about a dozen"
)

// Remarks returns what deserves a second thought and breaks no rule.
func Remarks(t *Tree) []string {
	var rs []string
	for _, p := range t.Packages {
		code := 0
		for _, f := range p.Files {
			if !f.Test() {
				code++
			}
			rs = append(rs, fileRemarks(t, f)...)
		}
		if code > fullFolder {
			rs = append(rs, fmt.Sprintf("%s: %d files", p.Dir, code))
		}
	}
	return append(rs, unargued(t)...)
}

func fileRemarks(t *Tree, f File) []string {
	var rs []string
	if n := f.Lines(); n > longFile {
		rs = append(rs, fmt.Sprintf("%s: %d lines", f.Path, n))
	}
	for _, d := range f.Syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := t.Fset.Position(fn.Pos()), t.Fset.Position(fn.End())
		if n := to.Line - from.Line + 1; n > longFunc {
			rs = append(rs, fmt.Sprintf("%s:%d: func %s has %d lines", f.Path, from.Line, fn.Name.Name, n))
		}
	}
	return rs
}

// unargued names the direct dependencies that docs/dependencies.md does not argue in the version of go.mod.
func unargued(t *Tree) []string {
	var rs []string
	for line := range strings.Lines(t.Texts["go.mod"]) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(words) != 2 || !strings.HasPrefix(words[1], "v") || !strings.Contains(words[0], ".") {
			continue // not a requirement, or an indirect one, which has a comment
		}
		if !argued(t.Texts["docs/dependencies.md"], words[0], words[1]) {
			rs = append(rs, fmt.Sprintf("docs/dependencies.md: no line for %s %s", words[0], words[1]))
		}
	}
	return rs
}

func argued(doc, module, version string) bool {
	for line := range strings.Lines(doc) {
		if strings.Contains(line, "`"+module+"`") && strings.Contains(line, version) {
			return true
		}
	}
	return false
}
