// Command tidy keeps the rules of this code that a compiler does not: which package may import which, what a pure
// package may contain, that every package tells its story, that no two fields of a struct share a CBOR number, that every file is
// gofmt'ed and names no path of the machine it was written on.
//
// It parses every Go file below the module's root, whatever its build constraints, and never builds or runs any of
// them. A Tree is what was read, a Layer is a row of the table in layers.go, a Problem is a broken rule. Sizes (long
// files, long functions, full folders) and dependencies without their line in docs/dependencies.md are printed as
// remarks: they are worth a second thought, and fail nothing.
//
// Promises: T1 a package without a row in the table is refused, so that no folder escapes the rules. T2 test files are
// held to gofmt and to machine paths only. T3 nothing is written.
package main

import (
	"fmt"
	"os"
)

func main() {
	root, err := findRoot(".")
	if err != nil {
		fail(err)
	}
	tree, err := Read(root)
	if err != nil {
		fail(err)
	}
	for _, r := range Remarks(tree) {
		fmt.Println("remark:", r)
	}
	problems := Check(tree)
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		fmt.Fprintf(os.Stderr, "tidy: %d broken rules\n", len(problems))
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "tidy:", err)
	os.Exit(2)
}
