package host

import (
	"souk/node/core/step"
	"souk/p2p/wire"
)

// LogsBody asks for the output of a pod, over a long stream.
type LogsBody struct {
	Lease  wire.ID `cbor:"1,keyasint"`
	Follow bool    `cbor:"2,keyasint"`
	Tail   uint32  `cbor:"3,keyasint"` // lines; 0: all that is kept
}

// LogsAnswer says which start of the pod it is.
type LogsAnswer struct {
	Start uint32 `cbor:"1,keyasint"`
}

// Logs decides whether a peer may read a pod's output: the consumer of its lease may, while the lease lasts.
func (h *Host) Logs(ctx *step.Context, r step.Request) {
	b, err := step.Body[LogsBody](r.Body)
	l := h.leases.Get(b.Lease)
	switch {
	case err != nil || l == nil || l.Terms.Consumer != r.Peer:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseUnknown, "no such lease of yours"))
	case l.Start == 0:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseState, "the pod has not started yet: it is %v", l.State))
	case l.Wiped:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseState, "the lease has ended and its output is gone"))
	default:
		ctx.Reply(r.ID, step.OpOK, LogsAnswer{Start: l.Start})
	}
}
