package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Tree is the module as read from disk.
type Tree struct {
	Module   string
	Root     string
	Fset     *token.FileSet
	Packages []Package         // sorted by Dir
	Texts    map[string]string // every other text file: path from the root → content
}

// A Package is the Go files of one folder. Files of an external test package (package x_test) are among them.
type Package struct {
	Dir   string // slash-separated, from the root; "." is the root
	Files []File // sorted by Path
}

// A File is one parsed Go file.
type File struct {
	Path   string // slash-separated, from the root
	Source []byte
	Syntax *ast.File
}

// Test says whether only `go test` compiles the file.
func (f File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Lines is the number of lines of the file.
func (f File) Lines() int { return strings.Count(string(f.Source), "\n") }

// A Problem is one place where a rule is broken.
type Problem struct {
	Path string // from the root; a folder where the rule is about a package
	Line int    // 0: the whole file or package
	Text string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.Path, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Text)
}

// findRoot returns the nearest folder at or above dir that holds a go.mod.
func findRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod in this folder or above it")
		}
		dir = parent
	}
}

// Read parses the module at root. A Go file that does not parse is an error.
func Read(root string) (*Tree, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone since the folder was listed
		case err != nil:
			return err
		case d.IsDir() && p != root && skipDir(d.Name()):
			return fs.SkipDir
		case !d.Type().IsRegular() || !isText(d.Name()):
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files[filepath.ToSlash(rel)] = b
		return err
	})
	if err != nil {
		return nil, err
	}
	t, err := parse(files)
	if err != nil {
		return nil, err
	}
	t.Root = root
	return t, nil
}

func skipDir(name string) bool {
	return name == "bin" || name == "vendor" || name == "node_modules" || strings.HasPrefix(name, ".") && name != ".ci"
}

// isText says which files are read: a list, because the tree may also hold binaries and stores.
func isText(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".mod", ".md", ".sh", ".txt", ".txtar", ".yaml", ".yml", ".json", ".html", ".js", ".css", ".sum", "":
		return true
	}
	return name == ".gitignore"
}

// parse builds a Tree from file contents by path. It is Read without the disk, for tests.
func parse(files map[string][]byte) (*Tree, error) {
	t := &Tree{Fset: token.NewFileSet(), Texts: map[string]string{}}
	dirs := map[string][]File{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		src := files[name]
		if path.Ext(name) != ".go" || inTestdata(name) {
			t.Texts[name] = string(src)
			continue
		}
		syntax, err := parser.ParseFile(t.Fset, name, src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		dirs[path.Dir(name)] = append(dirs[path.Dir(name)], File{name, src, syntax})
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		t.Packages = append(t.Packages, Package{dir, dirs[dir]})
	}
	for line := range strings.Lines(t.Texts["go.mod"]) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			t.Module = strings.TrimSpace(name)
		}
	}
	if t.Module == "" {
		return nil, errors.New("go.mod names no module")
	}
	return t, nil
}

func inTestdata(name string) bool {
	return slices.Contains(strings.Split(path.Dir(name), "/"), "testdata")
}

// Check returns every broken rule, in the order of the tree.
func Check(t *Tree) []Problem {
	var ps []Problem
	for _, p := range t.Packages {
		layer, ok := layerOf(p.Dir)
		if !ok {
			ps = append(ps, Problem{p.Dir, 0, "no layer names this package: put it inside one, or give it a row in cmd/tidy/layers.go"})
		} else {
			ps = append(ps, checkImports(t, p, layer)...)
			if layer.Kind.pure() {
				ps = append(ps, checkPurity(t, p, layer)...)
			}
		}
		ps = append(ps, checkComment(p)...)
		ps = append(ps, checkNumbers(t, p)...)
		ps = append(ps, checkFormat(p)...)
	}
	return append(ps, checkPaths(t)...)
}

func (t *Tree) problem(n ast.Node, format string, args ...any) Problem {
	pos := t.Fset.Position(n.Pos())
	return Problem{pos.Filename, pos.Line, fmt.Sprintf(format, args...)}
}
