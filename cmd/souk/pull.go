package main

import (
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"souk/market"
	"souk/node/core/consumer"
)

// A pull draws the progress of an image's download on a terminal; elsewhere it says nothing but words.
type pull struct {
	e    *env
	size int64 // as the registry says
	all  *mpb.Progress
	bar  *mpb.Bar
}

func newPull(e *env, size int64) *pull { return &pull{e: e, size: size} }

// show brings the bar to where the pod is.
func (p *pull) show(v consumer.View) {
	total := v.PullSize
	if total == 0 {
		total = p.size
	}
	if v.State != market.StateSetup.String() || v.Pulled == 0 || !p.e.draws {
		p.end()
		return
	}
	if p.bar == nil {
		p.all = mpb.New(mpb.WithOutput(p.e.err), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond))
		p.bar = p.all.AddBar(total,
			mpb.PrependDecorators(decor.Name("pulling "), decor.Counters(decor.SizeB1024(0), "% .1f / % .1f")),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5})), mpb.BarRemoveOnComplete())
	}
	p.bar.SetTotal(total, false)
	p.bar.SetCurrent(v.Pulled)
}

// say prints a line, above the bar if there is one.
func (p *pull) say(line string) {
	var w io.Writer = p.e.err
	if p.bar != nil {
		w = p.all
	}
	io.WriteString(w, clean(line)+"\n")
}

// end takes the bar away.
func (p *pull) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.all.Wait()
		p.bar = nil
	}
}
