package main

import (
	"slices"
	"strings"
	"testing"
)

// TestTheTreeKeepsItsRules is the point of this package: it reads the real module.
func TestTheTreeKeepsItsRules(t *testing.T) {
	root, err := findRoot(".")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Packages) < 5 {
		t.Fatalf("read %d packages below %s: not the module", len(tree.Packages), root)
	}
	for _, p := range Check(tree) {
		t.Error(p)
	}
	for _, r := range Remarks(tree) {
		t.Log("remark:", r)
	}
}

// pure is a pure package around the given declarations.
func pure(body string) map[string][]byte {
	return map[string][]byte{"ledger/a.go": []byte("// Package ledger counts.\npackage ledger\n\n" + body + "\n")}
}

func check(t *testing.T, files map[string][]byte) []Problem {
	t.Helper()
	files["go.mod"] = []byte("module souk\n\ngo 1.26\n")
	tree, err := parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return Check(tree)
}

func TestPurePackagesRefuse(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"a goroutine", `func f() { go f() }`, "go statement"},
		{"a goroutine in a closure", `func f() { _ = func() { go f() } }`, "go statement"},
		{"select", `func f() { select {} }`, "select"},
		{"a channel", `func f(c chan int) {}`, "channel type"},
		{"a channel in a struct", `type T struct{ c <-chan int }`, "channel type"},
		{"a made channel", `func f() { _ = make(chan struct{}) }`, "channel type"},
		{"the clock", "import \"time\"\n\nfunc f() time.Time { return time.Now() }", "time.Now"},
		{"the clock as a value", "import \"time\"\n\nfunc f() func() time.Time { return time.Now }", "time.Now"},
		{"the clock renamed", "import clock \"time\"\n\nfunc f() clock.Time { return clock.Now() }", "time.Now"},
		{"the clock imported bare", "import . \"time\"\n\nfunc f() Time { return Now() }", "import ."},
		{"a timer", "import \"time\"\n\nfunc f() { time.AfterFunc(0, f) }", "time.AfterFunc"},
		{"the machine's zone", "import \"time\"\n\nfunc f(t time.Time) time.Time { return t.In(time.Local) }", "time.Local"},
		{"printing", "import \"fmt\"\n\nfunc f() { fmt.Println() }", "fmt.Println"},
		{"context", "import \"context\"\n\nfunc f(context.Context) {}", "may not import context"},
		{"a lock", "import \"sync\"\n\ntype T struct{ mu sync.Mutex }", "may not import sync"},
		{"chance", "import \"math/rand/v2\"\n\nfunc f() int { return rand.Int() }", "may not import math/rand/v2"},
		{"files", "import \"os\"\n\nfunc f() { os.Exit(1) }", "may not import os"},
		{"a library", "import \"github.com/fxamacker/cbor/v2\"\n\nvar _ cbor.Tag", "may not import github.com/fxamacker/cbor/v2"},
		{"go-ethereum", "import \"github.com/ethereum/go-ethereum/common\"\n\ntype A common.Address", "may not import github.com/ethereum"},
		{"state", `var count int`, "package variable count"},
		{"state with a value", `var count = 3`, "package variable count"},
		{"a made map", `var cache = make(map[string]int)`, "package variable cache"},
		{"a made value", "var cache = mustCache()\n\nfunc mustCache() int { return 1 }", "package variable cache"},
		{"a function as variable", `var now = func() int { return 1 }`, "package variable now"},
		{"state beside an error", "import \"errors\"\n\nvar errA, n = errors.New(\"a\"), 3", "package variable errA"},
		{"a pointer to state", "type T struct{ n int }\n\nvar state = &T{n: 1}", "package variable state"},
		{"init", `func init() {}`, "no init"},
		{"a table that changes", "var table = map[int]int{}\n\nfunc f() { table[1] = 2 }", "changes the package variable table"},
		{"a table that loses rows", "var table = map[int]int{}\n\nfunc f() { delete(table, 1) }", "changes the package variable table"},
		{"a table that counts", "var table = [2]int{}\n\nfunc f() { table[1]++ }", "changes the package variable table"},
		{"an adapter", "import \"souk/exec\"\n\nvar _ exec.Runtime", "imports souk/exec"},
		{"the layer above", "import \"souk/market\"\n\nvar _ market.Offer", "ledger stands below or beside it"},
		{"a package of no layer", "import \"souk/util\"\n\nvar _ util.T", "no layer names"},
	} {
		t.Run(test.name, func(t *testing.T) { want(t, check(t, pure(test.body)), test.want) })
	}
}

// want asks that some problem says the words.
func want(t *testing.T, got []Problem, words string) {
	t.Helper()
	if !slices.ContainsFunc(got, func(p Problem) bool { return strings.Contains(p.String(), words) }) {
		t.Errorf("problems %v, want one with %q", got, words)
	}
}

func TestFieldsHaveNumbersOfTheirOwn(t *testing.T) {
	twice := "type T struct {\n\tA int `cbor:\"1,keyasint\"`\n\tB int `cbor:\"1,keyasint,omitempty\"`\n}"
	if ps := check(t, pure(twice)); len(ps) != 1 || !strings.Contains(ps[0].String(), "CBOR number 1 stands twice") {
		t.Errorf("two fields of one number: %v", ps)
	}
	apart := "type T struct {\n\tA int `cbor:\"1,keyasint\"`\n\tB int `cbor:\"2,keyasint\"`\n\tC struct {\n\t\tA int `cbor:\"1,keyasint\"`\n\t} `cbor:\"3,keyasint\"`\n}"
	if ps := check(t, pure(apart)); len(ps) != 0 {
		t.Errorf("numbers of their own: %v", ps)
	}
}

func TestPurePackagesAllow(t *testing.T) {
	for _, test := range []struct{ name, body string }{
		{"errors", "import (\n\t\"errors\"\n\t\"fmt\"\n)\n\nvar (\n\tErrA = errors.New(\"a\")\n\tErrB = fmt.Errorf(\"b: %w\", ErrA)\n)"},
		{"typed errors", "type refused struct{ code int }\n\nvar ErrFunds = &refused{code: 2}"},
		{"tables", "var names = [...]string{\"a\"}\n\nvar rows = map[int][]string{1: {\"x\"}}\n\nvar magic = []byte(\"souk\")"},
		{"an assertion", "import \"fmt\"\n\ntype T int\n\nfunc (T) String() string { return \"\" }\n\nvar _ fmt.Stringer = T(0)"},
		{"the types of time", "import \"time\"\n\nfunc f(t time.Time) time.Time { return t.Add(time.Minute).UTC() }"},
		{"a method named as a clock", "import \"time\"\n\nfunc f(a, b time.Time) bool { return a.After(b) }"},
		{"a variable that hides a package", "import \"time\"\n\ntype clock struct{ Now time.Time }\n\nfunc f(time clock) any { return time.Now }"},
		{"a local that hides a table", "var table = map[int]int{}\n\nfunc f() int {\n\ttable := map[int]int{}\n\ttable[1] = 2\n\treturn table[1]\n}"},
		{"the layers below", "import (\n\t\"souk/p2p/identity\"\n\t\"souk/p2p/wire\"\n)\n\nvar _ identity.Address\n\nvar _ wire.ID"},
		{"its own sub-package", "import \"souk/ledger/bank\"\n\nvar _ bank.T"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, p := range check(t, pure(test.body)) {
				t.Error(p)
			}
		})
	}
}

func TestTestFilesAreExemptFromPurity(t *testing.T) {
	files := pure("type T int")
	files["ledger/a_test.go"] = []byte("package ledger\n\nimport \"sync\"\n\nvar mu sync.Mutex\n\nfunc f() { go f() }\n")
	for _, p := range check(t, files) {
		t.Error(p)
	}
}

func TestSubPackagesOfAPurePackageArePure(t *testing.T) {
	want(t, check(t, map[string][]byte{
		"market/auction/a.go": []byte("// Package auction sells.\npackage auction\n\nfunc f() { go f() }\n"),
	}), "go statement")
}

func TestBuildConstraintsHideNothing(t *testing.T) {
	files := pure("type T int")
	files["ledger/b_windows.go"] = []byte("//go:build windows && never\n\npackage ledger\n\nimport \"os\"\n\nvar _ os.File\n")
	want(t, check(t, files), "ledger/b_windows.go:5: a pure package may not import os")
}

func TestLayersRefuse(t *testing.T) {
	for _, test := range []struct{ dir, imports, want string }{
		{"exec", "souk/p2p", "adapters never import one another"},
		{"exec/gpu", "souk/node/store", "adapters never import one another"},
		{"p2p", "souk/exec/image", "adapters never import one another"},
		{"node/store", "souk/node/keys", "adapters never import one another"},
		{"node/web", "souk/node/api", "adapters never import one another"},
		{"node/store", "souk/node", "stands below"},
		{"node/core", "souk/node/store", "stands below"},
		{"node/core/table", "souk/node/core", "stands below"},
		{"node/core", "souk/node/crash", "stands below"},
		{"exec/plan", "souk/exec", "stands below"},
		{"p2p/identity", "souk/p2p/wire", "stands below"},
		{"p2p/identity", "github.com/ethereum/go-ethereum/accounts/keystore", "may not import"},
		{"p2p/wire", "github.com/ethereum/go-ethereum/signer/core/apitypes", "may not import"},
		{"reliability", "souk/ledger", "stands below or beside"},
		{"cmd/tidy", "souk/ledger", "stands below or beside"},
		{"node/util", "fmt", "no layer names this package"},
		{"util", "fmt", "no layer names this package"},
		{"cmd/other", "fmt", "no layer names this package"},
	} {
		t.Run(test.dir+" imports "+test.imports, func(t *testing.T) { want(t, check(t, importing(test.dir, test.imports)), test.want) })
	}
}

func TestLayersAllow(t *testing.T) {
	for _, test := range []struct{ dir, imports string }{
		{"p2p/wire", "github.com/fxamacker/cbor/v2"},
		{"p2p/identity", "github.com/ethereum/go-ethereum/crypto"},
		{"market", "souk/reliability"},
		{"node/core", "souk/market"},
		{"node/core", "souk/node/core/table"},
		{"node/core/host", "souk/node/core"},
		{"exec", "souk/exec/gpu"},
		{"exec/exectest", "souk/exec/plan"},
		{"exec", "souk/node/crash"},
		{"node/store", "souk/node/core/table"},
		{"node/keys", "github.com/ethereum/go-ethereum/accounts/keystore"},
		{"node/api", "souk/node/web"},
		{"node", "souk/exec"},
		{"simnet", "souk/node/core"},
		{"cmd/souk", "souk/node"},
	} {
		t.Run(test.dir+" imports "+test.imports, func(t *testing.T) {
			for _, p := range check(t, importing(test.dir, test.imports)) {
				t.Error(p)
			}
		})
	}
}

// importing is a package with one import and nothing else.
func importing(dir, path string) map[string][]byte {
	name := dir[strings.LastIndex(dir, "/")+1:]
	doc, pkg := "Package "+name, name
	if strings.HasPrefix(dir, "cmd/") {
		doc, pkg = "Command "+name, "main"
	}
	return map[string][]byte{dir + "/a.go": []byte("// " + doc + " stands here.\npackage " + pkg + "\n\nimport x \"" + path + "\"\n")}
}

func TestLeavesKeepWhatTheirCodecMade(t *testing.T) {
	for _, p := range check(t, map[string][]byte{"p2p/wire/a.go": []byte(
		"// Package wire encodes.\npackage wire\n\nvar encoder = mustEncoder()\n\nfunc mustEncoder() int { return 1 }\n")}) {
		t.Error(p)
	}
}

func TestEveryPackageTellsItsStoryOnce(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"none", map[string][]byte{"ledger/a.go": []byte("package ledger\n")}, "no package comment"},
		{"cut off", map[string][]byte{"ledger/a.go": []byte("// Package ledger counts.\n\npackage ledger\n")}, "no package comment"},
		{"in a test", map[string][]byte{"ledger/a.go": []byte("package ledger\n"),
			"ledger/a_test.go": []byte("// Package ledger counts.\npackage ledger\n")}, "no package comment"},
		{"a constraint only", map[string][]byte{"ledger/a.go": []byte("//go:build linux\n\npackage ledger\n")}, "no package comment"},
		{"another name", map[string][]byte{"ledger/a.go": []byte("// Package ledgers counts.\npackage ledger\n")}, `want "Package ledger"`},
		{"no name", map[string][]byte{"ledger/a.go": []byte("// Counting.\npackage ledger\n")}, `want "Package ledger"`},
		{"a command as a package", map[string][]byte{"cmd/souk/a.go": []byte("// Package main is souk.\npackage main\n")}, `want "Command souk"`},
		{"twice", map[string][]byte{"ledger/a.go": []byte("// Package ledger counts.\npackage ledger\n"),
			"ledger/b.go": []byte("// Package ledger counts.\npackage ledger\n")}, "ledger/b.go: a second package comment"},
	} {
		t.Run(test.name, func(t *testing.T) { want(t, check(t, test.files), test.want) })
	}
}

func TestFilesAreFormatted(t *testing.T) {
	files := pure("type T int")
	files["ledger/a_test.go"] = []byte("package ledger\nfunc  f() {}\n")
	want(t, check(t, files), "ledger/a_test.go: not gofmt'ed")
}

func TestMachinePathsAreRefused(t *testing.T) {
	for _, test := range []struct {
		line string
		bad  bool
	}{
		{"see /" + "work/main/x", true},
		{`log = "/` + `root/log"`, true},
		{"/" + "work/a", true},
		{`keys = "/` + `root/.ssh/authorized_keys"`, false},
		{"https://example.org/work/a", false},
		{"a/work/b and ../root/c", false},
		{"/workspace/a", false},
	} {
		files := pure("type T int")
		files["docs/a.md"] = []byte("first\n" + test.line + "\n")
		got := check(t, files)
		if bad := len(got) == 1 && got[0].Path == "docs/a.md" && got[0].Line == 2; bad != test.bad || !bad && len(got) > 0 {
			t.Errorf("%q: problems %v, want refused = %v", test.line, got, test.bad)
		}
	}
}

func TestRemarksNameLongFunctionsAndUnarguedDependencies(t *testing.T) {
	files := pure("func f() {\n" + strings.Repeat("\t_ = 0\n", 80) + "}\n" + strings.Repeat("\n// x\n", 300))
	files["go.mod"] = []byte("module souk\n\nrequire (\n\texample.org/a v1.0.0\n\texample.org/b v1.1.0\n\texample.org/c v1.2.0 // indirect\n)\n\nrequire example.org/d v2.0.0\n")
	files["docs/dependencies.md"] = []byte("- `example.org/a` v1.0.0: does a.\n- `example.org/b` v1.0.9: does b.\n")
	tree, err := parse(files)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(Remarks(tree), "\n")
	for _, words := range []string{"func f has 82 lines", "ledger/a.go: 6", "example.org/b v1.1.0", "example.org/d v2.0.0"} {
		if !strings.Contains(got, words) {
			t.Errorf("remarks\n%s\nwant %q among them", got, words)
		}
	}
	for _, words := range []string{"example.org/a", "example.org/c"} {
		if strings.Contains(got, words) {
			t.Errorf("remarks\n%s\nwant no %q", got, words)
		}
	}
}
