package main

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// shellNames are the names that a pure package may not use, by import path: clocks, input and output, chance. A trailing
// star stands for any ending.
var shellNames = map[string][]string{
	"time":              {"Now", "Since", "Until", "Sleep", "After*", "Tick", "NewTimer", "NewTicker", "Local"},
	"fmt":               {"Print*", "Scan*"},
	ethereum + "crypto": {"GenerateKey", "LoadECDSA", "SaveECDSA"},
}

// checkPurity refuses what makes two runs with the same inputs differ: goroutines, channels, clocks, state of the
// package. What an AST cannot see, such as the order of a map, is caught by running every seed twice.
func checkPurity(t *Tree, p Package, l Layer) []Problem {
	var ps []Problem
	vars := packageVars(p)
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		for _, d := range f.Syntax.Decls {
			ps = append(ps, checkDecl(t, d, f, l)...)
		}
		v := visitor{tree: t, imports: importNames(f.Syntax), vars: vars, file: f.Syntax}
		ast.Inspect(f.Syntax, v.visit)
		ps = append(ps, v.problems...)
	}
	return ps
}

func checkDecl(t *Tree, d ast.Decl, f File, l Layer) []Problem {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.Name == "init" {
			return []Problem{t.problem(d, "a %s has no init", l.Kind)}
		}
	case *ast.GenDecl:
		if d.Tok != token.VAR {
			return nil
		}
		imports := importNames(f.Syntax)
		var ps []Problem
		for _, s := range d.Specs {
			if spec := s.(*ast.ValueSpec); !allowedVar(spec, imports, l) {
				ps = append(ps, t.problem(spec, "package variable %s: a %s has only errors and tables", spec.Names[0].Name, l.Kind))
			}
		}
		return ps
	}
	return nil
}

// allowedVar says whether the variable is an error, a table, or a compile-time assertion. A leaf may also keep what a
// function named must… has made once, because its codec has no other form.
func allowedVar(spec *ast.ValueSpec, imports map[string]string, l Layer) bool {
	if !slices.ContainsFunc(spec.Names, func(n *ast.Ident) bool { return n.Name != "_" }) {
		return true
	}
	if len(spec.Values) == 0 {
		return false
	}
	for i, v := range spec.Values {
		name := spec.Names[min(i, len(spec.Names)-1)].Name
		if !isTable(v) && !isError(v, imports) && !isTypedError(name, v) && !isMade(v, l) {
			return false
		}
	}
	return true
}

func isTable(v ast.Expr) bool {
	switch v := v.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.CallExpr: // []byte("…"), the table of bytes
		_, array := v.Fun.(*ast.ArrayType)
		return array
	}
	return false
}

func isError(v ast.Expr, imports map[string]string) bool {
	call, ok := v.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	from := imports[pkg.Name]
	return from == "errors" && sel.Sel.Name == "New" || from == "fmt" && sel.Sel.Name == "Errorf"
}

// isTypedError accepts an error with fields, ErrX = &Refusal{…}, by its name.
func isTypedError(name string, v ast.Expr) bool {
	ref, ok := v.(*ast.UnaryExpr)
	if !ok || ref.Op != token.AND || !strings.HasPrefix(name, "Err") && !strings.HasPrefix(name, "err") {
		return false
	}
	_, ok = ref.X.(*ast.CompositeLit)
	return ok
}

func isMade(v ast.Expr, l Layer) bool {
	call, ok := v.(*ast.CallExpr)
	if !ok || l.Kind != Leaf {
		return false
	}
	name, ok := call.Fun.(*ast.Ident)
	return ok && strings.HasPrefix(name.Name, "must")
}

// packageVars are the names of the package-level variables of the files that are not tests.
func packageVars(p Package) map[string]bool {
	names := map[string]bool{}
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		for _, d := range f.Syntax.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, s := range gen.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					names[n.Name] = true
				}
			}
		}
	}
	return names
}

// importNames maps the names under which a file knows its imports to their paths.
func importNames(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}

// A visitor collects the refused syntax of one file.
type visitor struct {
	tree     *Tree
	file     *ast.File
	imports  map[string]string
	vars     map[string]bool
	problems []Problem
}

func (v *visitor) refuse(n ast.Node, format string, args ...any) {
	v.problems = append(v.problems, v.tree.problem(n, format, args...))
}

func (v *visitor) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		v.refuse(n, "go statement in a pure package")
	case *ast.SelectStmt:
		v.refuse(n, "select in a pure package")
	case *ast.ChanType:
		v.refuse(n, "channel type in a pure package")
	case *ast.ImportSpec:
		if n.Name != nil && (n.Name.Name == "." || n.Name.Name == "_") {
			v.refuse(n, "import %s in a pure package: give it a name", n.Name.Name)
		}
	case *ast.SelectorExpr:
		v.selector(n)
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, left := range n.Lhs {
				v.write(left)
			}
		}
	case *ast.IncDecStmt:
		v.write(n.X)
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && f.Obj == nil && len(n.Args) > 0 {
			v.write(n.Args[0])
		}
	}
	return true
}

func (v *visitor) selector(s *ast.SelectorExpr) {
	x, ok := s.X.(*ast.Ident)
	if !ok || x.Obj != nil { // a variable that hides the package
		return
	}
	from := v.imports[x.Name]
	for _, name := range shellNames[from] {
		prefix, open := strings.CutSuffix(name, "*")
		if s.Sel.Name == name || open && strings.HasPrefix(s.Sel.Name, prefix) {
			v.refuse(s, "%s.%s in a pure package: time and chance enter in inputs, the shell does the rest", path.Base(from), s.Sel.Name)
		}
	}
}

// write refuses to change a package variable, whole or in part.
func (v *visitor) write(e ast.Expr) {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.Ident:
			if v.vars[x.Name] && (x.Obj == nil || v.file.Scope.Lookup(x.Name) == x.Obj) {
				v.refuse(x, "changes the package variable %s", x.Name)
			}
			return
		default:
			return
		}
	}
}
