package main

import (
	"go/ast"
	"reflect"
	"strconv"
	"strings"
)

// checkNumbers refuses two fields of one struct with one CBOR number: the codec leaves both out, and says nothing.
func checkNumbers(t *Tree, p Package) []Problem {
	var ps []Problem
	for _, f := range p.Files {
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			taken := map[string]bool{}
			for _, field := range s.Fields.List {
				number := cborNumber(field)
				if number != "" && taken[number] {
					ps = append(ps, t.problem(field, "CBOR number %s stands twice in this struct", number))
				}
				taken[number] = true
			}
			return true
		})
	}
	return ps
}

// cborNumber is the number that a field has in CBOR; empty: none.
func cborNumber(field *ast.Field) string {
	if field.Tag == nil {
		return ""
	}
	text, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		return ""
	}
	number, rest, _ := strings.Cut(reflect.StructTag(text).Get("cbor"), ",")
	if !strings.Contains(rest, "keyasint") {
		return ""
	}
	return number
}
