package market

import (
	"fmt"
	"slices"
	"strings"

	"souk/p2p/member"
)

// Bounds of a query. They come before any other work on it.
const (
	maxQuery      = 2048 // bytes
	maxConditions = 32
	maxValues     = 32 // of one list
	maxValue      = 96 // bytes of one value
)

// A Query says which offers somebody wants: conditions that must all hold.
//
//	gpu_name=RTX_4090 num_gpus>=2 reliability>=0.99 dph<0.4 gpu_ram>=24GiB geolocation in [DE,NL]
//
// A condition is a field, an operator and a value. The operators are = == != < <= > >= in notin, or as words eq neq lt lte
// gt gte. A value with spaces stands in quotes or has underscores for them; case does not matter. Sizes and spans want a
// unit. The value any, not quoted, lifts what Implicit would ask of the field. These are the words of Vast's search.
type Query struct {
	conds []condition
}

// A condition is one test of a listing.
type condition struct {
	field  *field
	op     operator
	values []operand
}

// An operand is a value as it was written, and what it means to the field.
type operand struct {
	text   string
	plain  string // the same in plain
	quoted bool
	at     int // where in the query it stands
	num    number
	ver    []uint64
}

// An operator compares. Its string is what is printed.
type operator string

// The operators.
const (
	opEqual    operator = "="
	opNotEqual operator = "!="
	opLess     operator = "<"
	opAtMost   operator = "<="
	opMore     operator = ">"
	opAtLeast  operator = ">="
	opIn       operator = " in "
	opNotIn    operator = " notin "
)

// ordered reports whether the operator needs an order.
func (o operator) ordered() bool {
	return o == opLess || o == opAtMost || o == opMore || o == opAtLeast
}

// symbols are the operators in signs, the longer ones first; words are those in letters.
var (
	symbols = []struct {
		text string
		op   operator
	}{
		{"==", opEqual}, {"!=", opNotEqual}, {"<=", opAtMost}, {">=", opAtLeast}, {"=", opEqual}, {"<", opLess}, {">", opMore},
	}
	words = []struct {
		text string
		op   operator
	}{
		{"eq", opEqual}, {"neq", opNotEqual}, {"noteq", opNotEqual}, {"lt", opLess}, {"lte", opAtMost}, {"gt", opMore},
		{"gte", opAtLeast}, {"in", opIn}, {"notin", opNotIn}, {"nin", opNotIn},
	}
)

// A QueryError says where a query cannot be read, and why.
type QueryError struct {
	At    int      // byte offset
	Why   string   // what is wrong there
	Field string   // an unknown field; empty for other errors
	Near  []string // known fields that are spelled nearly so
}

// Error names the column, from 1, and near fields.
func (e QueryError) Error() string {
	s := fmt.Sprintf("market: query, column %d: %s", e.At+1, e.Why)
	if len(e.Near) > 0 {
		s += "; did you mean " + either(e.Near) + "?"
	}
	return s
}

// either is a list of names for people: A, B or C.
func either(names []string) string {
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " or " + names[n]
	}
	return names[0]
}

// ParseQuery reads a query; an empty one asks for nothing. Every error is a QueryError.
func ParseQuery(s string) (Query, error) {
	var q Query
	if len(s) > maxQuery {
		return q, QueryError{At: maxQuery, Why: fmt.Sprintf("a query has at most %d bytes", maxQuery)}
	}
	p := &parser{text: s}
	for p.space(); p.at < len(s); p.space() {
		if len(q.conds) == maxConditions {
			return Query{}, QueryError{At: p.at, Why: fmt.Sprintf("a query has at most %d conditions", maxConditions)}
		}
		c, err := p.condition()
		if err != nil {
			return Query{}, err
		}
		q.conds = append(q.conds, c)
	}
	return q, nil
}

// String is the query in its plainest spelling; ParseQuery reads it back as the same query.
func (q Query) String() string {
	out := make([]string, len(q.conds))
	for i := range q.conds {
		out[i] = q.conds[i].String()
	}
	return strings.Join(out, " ")
}

// IsZero reports whether the query asks for nothing.
func (q Query) IsZero() bool { return len(q.conds) == 0 }

// Names reports whether the query has a condition on a field, any included.
func (q Query) Names(name string) bool {
	f, _ := findField(name)
	return f != nil && slices.ContainsFunc(q.conds, func(c condition) bool { return c.field == f })
}

// Implicit is what is asked beside q of fields that q does not name: vetted hosts, no simulated GPUs, and the market's
// least reliability. It is a query of its own, so that it can be shown.
func (q Query) Implicit(p member.Policy) Query {
	var out Query
	for _, s := range []string{"verified=true", "simulated=false", "reliability>=" + ppmText(uint64(p.MinReliability))} {
		d, err := ParseQuery(s)
		if err != nil {
			panic("market: " + err.Error())
		}
		if !q.Names(d.conds[0].field.name) {
			out.conds = append(out.conds, d.conds...)
		}
	}
	return out
}

// And is both queries' conditions.
func (q Query) And(more Query) Query { return Query{slices.Concat(q.conds, more.conds)} }

// Match reports whether a listing meets every condition. If not, failed is the first one that it does not meet, and what
// the listing has: "dph<0.4 (is 0.45)". A condition on what a host does not say is not met. A listing of no group meets none.
func (q Query) Match(l Listing) (ok bool, failed string) {
	if l.Group < 0 || l.Group >= len(l.Offer.Groups) {
		return false, "a group of GPUs (there is none)"
	}
	r := rowOf(&l)
	for _, c := range q.checks() {
		if !c.met(&r, r.having(0)) {
			return false, fmt.Sprintf("%v (is %s)", c.cond, c.cond.field.show(&r, r.having(0)))
		}
	}
	return true, ""
}

// String is the condition as ParseQuery reads it.
func (c *condition) String() string {
	var vals []string
	for _, v := range c.values {
		vals = append(vals, v.String())
	}
	switch {
	case c.op == "":
		return c.field.name + "=any"
	case c.op == opIn || c.op == opNotIn:
		return c.field.name + string(c.op) + "[" + strings.Join(vals, ",") + "]"
	}
	return c.field.name + string(c.op) + vals[0]
}

// String is the value, in quotes where it needs them.
func (o operand) String() string {
	switch {
	case strings.Contains(o.text, `"`):
		return "'" + o.text + "'"
	case o.text == "" || o.quoted && strings.EqualFold(o.text, "any") || strings.ContainsFunc(o.text, func(r rune) bool { return !bare(r) }):
		return `"` + o.text + `"`
	}
	return o.text
}

// A parser reads one query from left to right.
type parser struct {
	text string
	at   int
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// bare reports whether a rune may stand in a value without quotes.
func bare(r rune) bool { return r > ' ' && r != 0x7f && !strings.ContainsRune(`"',[]=!<>`, r) }

// word reads a run of bare runes.
func (p *parser) word() string {
	rest := p.text[p.at:]
	n := strings.IndexFunc(rest, func(r rune) bool { return !bare(r) })
	if n < 0 {
		n = len(rest)
	}
	p.at += n
	return rest[:n]
}

func (p *parser) condition() (condition, error) {
	start := p.at
	name := p.word()
	if name == "" {
		return condition{}, QueryError{At: start, Why: "want a field, as in gpu_name=RTX_4090"}
	}
	f, near := findField(name)
	if why := unmeasured[strings.ToLower(name)]; f == nil && why != "" {
		return condition{}, QueryError{At: start, Why: fmt.Sprintf("%s is not measured yet: %s", name, why)}
	}
	if f == nil {
		return condition{}, QueryError{At: start, Why: fmt.Sprintf("unknown field %q", clip(name)), Field: name, Near: near}
	}
	p.space()
	at := p.at
	op, err := p.operator(f)
	if err != nil {
		return condition{}, err
	}
	if op.ordered() && !f.unit.ordered() {
		return condition{}, QueryError{At: at, Why: fmt.Sprintf("%s has no order; use =, !=, in or notin", f.name)}
	}
	p.space()
	c := condition{field: f, op: op}
	if op == opIn || op == opNotIn {
		c.values, err = p.list(f)
		return c, err
	}
	at = p.at
	v, err := p.value(f, op == opEqual)
	if op == opEqual && !v.quoted && strings.EqualFold(v.text, "any") {
		return condition{field: f}, nil
	}
	if err == nil && len(p.text) > p.at && bare(rune(p.text[p.at])) {
		err = QueryError{At: p.at, Why: "want a space between conditions"}
	}
	c.values = []operand{v}
	return c, err
}

func (p *parser) operator(f *field) (operator, error) {
	rest := p.text[p.at:]
	for _, s := range symbols {
		if strings.HasPrefix(rest, s.text) {
			p.at += len(s.text)
			return s.op, nil
		}
	}
	start := p.at
	w := strings.ToLower(p.word())
	if w == "not" {
		p.space()
		w += strings.ToLower(p.word())
	}
	for _, s := range words {
		if w == s.text {
			return s.op, nil
		}
	}
	return "", QueryError{At: start, Why: fmt.Sprintf("want an operator after %s: = != < <= > >= in notin", f.name)}
}

func (p *parser) list(f *field) ([]operand, error) {
	if !strings.HasPrefix(p.text[p.at:], "[") {
		return nil, QueryError{At: p.at, Why: "want a list, as in [DE,NL]"}
	}
	var out []operand
	for {
		p.at++
		p.space()
		if len(out) == maxValues {
			return nil, QueryError{At: p.at, Why: fmt.Sprintf("a list has at most %d values", maxValues)}
		}
		v, err := p.value(f, false)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		p.space()
		switch {
		case strings.HasPrefix(p.text[p.at:], "]"):
			p.at++
			return out, nil
		case !strings.HasPrefix(p.text[p.at:], ","):
			return nil, QueryError{At: p.at, Why: "want , or ] in the list"}
		}
	}
}

// value reads one value of a field. Where any is allowed it is not asked what it means.
func (p *parser) value(f *field, any bool) (operand, error) {
	start := p.at
	var v operand
	if p.at < len(p.text) && (p.text[p.at] == '"' || p.text[p.at] == '\'') {
		n := strings.IndexByte(p.text[p.at+1:], p.text[p.at])
		if n < 0 {
			return v, QueryError{At: start, Why: "the quote is not closed"}
		}
		v.text, v.quoted = p.text[p.at+1:p.at+1+n], true
		p.at += n + 2
	} else if v.text = p.word(); v.text == "" {
		return v, QueryError{At: start, Why: fmt.Sprintf("want a value for %s", f.name)}
	}
	switch {
	case len(v.text) > maxValue:
		return v, QueryError{At: start, Why: fmt.Sprintf("a value has at most %d bytes", maxValue)}
	case any && !v.quoted && strings.EqualFold(v.text, "any"):
		return v, nil
	}
	v.plain, v.at = plain(v.text), start
	if why := f.unit.read(&v); why != "" {
		return v, QueryError{At: start, Why: fmt.Sprintf("%s: %q is %s", f.name, v.text, why)}
	}
	if f.among != nil && !slices.Contains(f.among, v.plain) {
		return v, QueryError{At: start, Why: fmt.Sprintf("%s: %q is none of %s", f.name, v.text, strings.Join(f.among, ", "))}
	}
	return v, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }
