package market

import "slices"

// A check is one condition of a search, made ready to be asked of many rows. What it says of itself is worked out when it is
// asked for.
type check struct {
	number func(r *row, gpus uint64) uint64 // gpus: those that can be had; from this to that it has to be
	span
	holds func(r *row, gpus uint64) bool // if there is no number
	cond  *condition                     // of a query; nil: of a wish, which has these two:
	name  func() string
	lack  func(r *row, gpus uint64) string
}

// met reports whether a row meets the check.
func (c *check) met(r *row, gpus uint64) bool {
	if c.number != nil {
		v := c.number(r, gpus)
		return c.from <= v && v <= c.to
	}
	return c.holds(r, gpus)
}

// judged reports whether the check is of what is known of the host, and not of its offer.
func (c *check) judged() bool { return c.cond != nil && c.cond.field.judged }

// String is the condition.
func (c *check) String() string {
	if c.cond != nil {
		return c.cond.String()
	}
	return c.name()
}

// lacks says what a row has that does not meet it.
func (c *check) lacks(r *row, gpus uint64) string {
	if c.cond != nil {
		return c.cond.field.name + " is " + c.cond.field.show(r, gpus)
	}
	return c.lack(r, gpus)
}

// checks are the query's conditions, those that are quickest to answer first, those on what is known of the host last.
func (q Query) checks() []check {
	out := make([]check, 0, len(q.conds))
	for rank := range 3 {
		for i := range q.conds {
			c := &q.conds[i]
			switch {
			case c.op == "" || c.rank() != rank:
			case c.field.num != nil && len(c.values) == 1 && c.op != opNotEqual && c.op != opNotIn:
				out = append(out, check{number: c.field.num, span: c.values[0].num.span(c.op), cond: c})
			case c.field.num != nil:
				out = append(out, check{holds: c.numbers(), cond: c})
			default:
				out = append(out, check{holds: c.texts(), cond: c})
			}
		}
	}
	return out
}

// rank orders conditions by what they cost.
func (c *condition) rank() int {
	switch {
	case c.field.judged:
		return 2
	case c.field.text != nil:
		return 1
	}
	return 0
}

// A span is the numbers from one to another, both included. It is empty if from is over to.
type span struct{ from, to uint64 }

// span is the numbers that are as the operator wants them.
func (n number) span(op operator) span {
	none, next := span{1, 0}, n.whole+1
	if n.more && op == opAtLeast {
		op = opMore
	}
	switch op {
	case opLess:
		switch {
		case n.more:
			return span{0, n.whole}
		case n.whole == 0:
			return none
		}
		return span{0, n.whole - 1}
	case opAtMost:
		return span{0, n.whole}
	case opMore:
		return span{next, unlimited}
	case opAtLeast:
		return span{n.whole, unlimited}
	}
	if n.more {
		return none
	}
	return span{n.whole, n.whole}
}

// numbers tests a field that is a number against several values, or for another.
func (c *condition) numbers() func(r *row, gpus uint64) bool {
	not := c.op == opNotEqual || c.op == opNotIn
	var list []span
	for _, v := range c.values {
		list = append(list, v.num.span(opEqual))
	}
	return func(r *row, n uint64) bool {
		v := c.field.num(r, n)
		if v == unknown {
			return false
		}
		return slices.ContainsFunc(list, func(s span) bool { return s.from <= v && v <= s.to }) != not
	}
}

// texts tests a field that is a text, a place or a version.
func (c *condition) texts() func(r *row, gpus uint64) bool {
	f, values, op := c.field, c.values, c.op
	not := op == opNotEqual || op == opNotIn
	return func(r *row, _ uint64) bool {
		have := f.text(r)
		if have == "" && !f.blank || f.unit == unitVersion && !isVersion(have) {
			return false
		}
		if op.ordered() {
			return op.admits(compareVersion(have, values[0].ver))
		}
		for i := range values {
			if f.unit.equal(have, values[i]) {
				return !not
			}
		}
		return not
	}
}

// admits reports whether a comparison came out as an ordered operator wants it.
func (o operator) admits(d int) bool {
	switch o {
	case opLess:
		return d < 0
	case opAtMost:
		return d <= 0
	case opMore:
		return d > 0
	}
	return d >= 0
}
