package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A column is one column of a table of Ts.
type column[T any] struct {
	head  string
	of    func(T) string
	right bool // numbers
	wide  bool // only with -o wide
}

// A listing says how values of one type are shown.
type listing[T any] struct {
	key     func(T) string // what -q and -o name print
	columns []column[T]
}

// show prints a list of values in the form that was asked for.
func (l listing[T]) show(e *env, list []T) error {
	switch {
	case e.quiet || e.output == "name":
		for _, v := range list {
			fmt.Fprintln(e.out, l.key(v))
		}
	case e.output == "json":
		if list == nil {
			list = []T{}
		}
		return e.json(list)
	case e.output == "jsonl":
		for _, v := range list {
			if err := e.jsonLine(v); err != nil {
				return err
			}
		}
	case e.output == "yaml":
		return e.yaml(list)
	case e.output == "csv":
		return l.csv(e.out, list)
	default:
		l.table(e, list)
	}
	return nil
}

// csv prints every column, as RFC 4180 has it.
func (l listing[T]) csv(to io.Writer, list []T) error {
	w := csv.NewWriter(to)
	row := func(of func(column[T]) string) {
		out := make([]string, 0, len(l.columns))
		for _, c := range l.columns {
			out = append(out, clean(of(c)))
		}
		w.Write(out)
	}
	row(func(c column[T]) string { return c.head })
	for _, v := range list {
		row(func(c column[T]) string { return c.of(v) })
	}
	w.Flush()
	return w.Error()
}

// table prints aligned columns, without any lines.
func (l listing[T]) table(e *env, list []T) {
	w := newTable(e)
	var head table.Row
	var configs []table.ColumnConfig
	cols := l.visible(e)
	for i, c := range cols {
		head = append(head, c.head)
		if c.right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.SetColumnConfigs(configs)
	w.AppendHeader(head)
	for _, v := range list {
		var row table.Row
		for _, c := range cols {
			row = append(row, clean(c.of(v)))
		}
		w.AppendRow(row)
	}
	fmt.Fprintln(e.out, w.Render())
}

func (l listing[T]) visible(e *env) []column[T] {
	var cols []column[T]
	for _, c := range l.columns {
		if !c.wide || e.output == "wide" {
			cols = append(cols, c)
		}
	}
	return cols
}

// stream gives a function that prints values one by one as they come, in the form that was asked for.
func (l listing[T]) stream(e *env, widths ...int) func(T) error {
	cols := l.visible(e)
	first := true
	row := func(of func(column[T]) string) {
		var b strings.Builder
		for i, c := range cols {
			if i == len(cols)-1 {
				b.WriteString(of(c))
				break
			}
			w := 12
			if i < len(widths) {
				w = widths[i]
			}
			if c.right {
				fmt.Fprintf(&b, "%*s  ", w, of(c))
			} else {
				fmt.Fprintf(&b, "%-*s  ", w, of(c))
			}
		}
		fmt.Fprintln(e.out, strings.TrimRight(b.String(), " "))
	}
	return func(v T) error {
		switch {
		case e.quiet || e.output == "name":
			_, err := fmt.Fprintln(e.out, l.key(v))
			return err
		case e.output == "json" || e.output == "jsonl":
			return e.jsonLine(v)
		case e.output == "yaml":
			fmt.Fprintln(e.out, "---")
			return e.yaml(v)
		}
		if first {
			row(func(c column[T]) string { return c.head })
			first = false
		}
		row(func(c column[T]) string { return clean(c.of(v)) })
		return nil
	}
}

// newTable is a table without lines; on a terminal its head stands out and rows are cut to the width.
func newTable(e *env) table.Writer {
	w := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	if e.fancy {
		style.Color.Header = text.Colors{text.Bold}
		style.Size.WidthMax = e.width
	}
	w.SetStyle(style)
	w.SuppressTrailingSpaces()
	return w
}

// clean keeps foreign text from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
}

// A fact is one line about a single thing. Facts without a value are not shown.
type fact struct{ name, value string }

// one prints a single thing: its facts, or itself in another form.
func (e *env) one(v any, key string, facts ...fact) error {
	switch {
	case e.quiet || e.output == "name":
		fmt.Fprintln(e.out, key)
		return nil
	case e.output == "json":
		return e.json(v)
	case e.output == "jsonl":
		return e.jsonLine(v)
	case e.output == "yaml":
		return e.yaml(v)
	}
	e.facts(facts)
	return nil
}

func (e *env) facts(facts []fact) {
	width := 0
	for _, f := range facts {
		if f.value != "" {
			width = max(width, len(f.name))
		}
	}
	for _, f := range facts {
		if f.value != "" {
			fmt.Fprintf(e.out, "%-*s  %s\n", width, f.name, clean(f.value))
		}
	}
}

// plain reports whether people read the output.
func (e *env) plain() bool { return !e.quiet && (e.output == "table" || e.output == "wide") }

func (e *env) json(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (e *env) jsonLine(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// yaml prints the same names and values as json does.
func (e *env) yaml(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	y, err := yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = e.out.Write(append(bytes.TrimRight(y, "\n"), '\n'))
	return err
}
