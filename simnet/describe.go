package simnet

import (
	"fmt"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/wire"
	"souk/reliability"
)

// describeIn is an input in a line, for people.
func describeIn(in step.Input) string {
	switch in := in.(type) {
	case step.Boot:
		return "boot"
	case step.Tick:
		return "tick"
	case step.Gossip:
		return "gossip of " + describe(in.Msg)
	case step.Request:
		return fmt.Sprintf("request %d %s op %d of %s: %s", in.ID, in.Proto, in.Op, in.Peer.Short(), describeAll(in.Objects))
	case step.Response:
		if in.Err != nil {
			return fmt.Sprintf("response %d: %v", in.ID, in.Err)
		}
		return fmt.Sprintf("response %d: %s", in.ID, describeAll(in.Objects))
	case step.Local:
		return fmt.Sprintf("local %T", in.Cmd)
	case step.PodEvent:
		return fmt.Sprintf("pod %s start %d: %v started %v finished %v %s", in.Lease.Short(), in.Start,
			[...]string{"", "pulling", "created", "started", "exited", "failed", "absent", "removed"}[in.What], in.Started, in.Finished, in.Detail)
	case step.Peer:
		return fmt.Sprintf("peer %s up=%v", in.Address.Short(), in.Up)
	}
	return fmt.Sprintf("%T", in)
}

func describeAll(list []wire.AnyVerified) string {
	var out []string
	for _, v := range list[:min(len(list), 6)] {
		out = append(out, describe(v))
	}
	if len(list) > 6 {
		out = append(out, fmt.Sprintf("and %d more", len(list)-6))
	}
	return strings.Join(out, "; ")
}

func describe(v wire.AnyVerified) string {
	switch v := v.(type) {
	case wire.Verified[ledger.Usage]:
		return describeMessage(v.Value())
	case wire.Verified[ledger.Voucher]:
		return describeMessage(v.Value())
	case wire.Verified[market.Alive]:
		return fmt.Sprintf("alive %s map %d/%b", v.Value().Lease.Short(), v.Value().Top, v.Value().Answered&0xff)
	case wire.Verified[market.AliveReply]:
		return fmt.Sprintf("reply %s minute %d %v usage %d", v.Value().Lease.Short(), v.Value().Minute, v.Value().State, v.Value().UsageSeq)
	case wire.Verified[market.Command]:
		return fmt.Sprintf("%v %s #%d", v.Value().Order, v.Value().Lease.Short(), v.Value().Seq)
	case wire.Verified[reliability.Beat]:
		return fmt.Sprintf("beat %d", v.Value().Minute)
	}
	return v.Kind().String()
}

func describeMessage(m wire.Message) string {
	switch m := m.(type) {
	case ledger.Usage:
		return fmt.Sprintf("usage %s #%d %d+%d %v %v bits %b numerator %d final %v", m.Lease.Short(), m.Seq, m.First, m.Count, m.Status, m.Basis, m.Billable, m.Numerator, m.Final)
	case ledger.Voucher:
		return fmt.Sprintf("voucher %s #%d %s", m.Lease.Short(), m.Seq, m.Total.Text())
	case market.LogEntry:
		return fmt.Sprintf("log #%d %v %s %v %v gpus %v until %d", m.Seq, m.Entry, m.Lease.Short(), m.State, m.Reason, m.GPUs, m.Until)
	}
	return m.Kind().String()
}

// describeOut writes what a step decided, where it is of interest.
func describeOut(b *strings.Builder, out *step.Out) {
	for _, r := range out.Rows {
		switch table.Table(r.Key[0]) {
		case table.LeaseLog, table.Usage:
			var o wire.Object
			if wire.Load(r.Value, &o) == nil {
				if m, err := core.Decode(o); err == nil {
					fmt.Fprintf(b, "      %s\n", describeMessage(m))
				}
			}
		}
	}
	for _, s := range out.Sends {
		fmt.Fprintf(b, "      send %d %s op %d to %s\n", s.ID, s.Proto, s.Frame.Op, s.To.Short())
	}
	for _, r := range out.Replies {
		if r.Refusal != nil {
			fmt.Fprintf(b, "      refuse %d: %s\n", r.ID, r.Refusal.Reason)
		}
	}
	for _, p := range out.Pods {
		fmt.Fprintf(b, "      want %s phase %d start %d\n", p.Lease.Short(), p.Phase, p.Start)
	}
	for _, n := range out.Notices {
		fmt.Fprintf(b, "      notice %s: %s\n", n.Type, n.Text)
	}
}
