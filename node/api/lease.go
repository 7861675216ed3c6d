package api

import (
	"context"
	"errors"
	"io"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Wish is what a pod should have and may cost.
type Wish struct {
	Type      market.BidKind `json:"kind" doc:"on-demand or spot"`
	Query     string         `json:"query,omitempty" maxLength:"2048" doc:"as in gpu_name=RTX_4090 reliability>=0.99"`
	Model     string         `json:"model,omitempty" maxLength:"64" doc:"of the GPUs; empty: any that the query takes"`
	GPUs      uint16         `json:"gpus" minimum:"1" maximum:"16"`
	MaxRate   ledger.Rate    `json:"maxRate,omitempty" doc:"most per GPU-hour; of spot, the bid"`
	Disk      uint64         `json:"disk,omitempty" doc:"bytes"`
	Volume    uint64         `json:"volume,omitempty" doc:"bytes"`
	Minutes   uint64         `json:"minutes,omitempty" doc:"longest run, in minutes of the market; 0: no limit"`
	Budget    ledger.Amount  `json:"budget,omitempty" doc:"0: no limit"`
	Host      string         `json:"host,omitempty" doc:"address; empty: any"`
	Simulated bool           `json:"simulated,omitempty" doc:"simulated GPUs will do"`
}

// An Order is a pod to be run: a Wish, a program, and the ids that make asking twice asking once.
type Order struct {
	Wish
	Reservation wire.ID  `json:"reservation" doc:"random"`
	Bid         wire.ID  `json:"bid" doc:"random"`
	Image       string   `json:"image" doc:"REPO@sha256:…"`
	Tag         string   `json:"tag,omitempty" doc:"the image as the user wrote it"`
	Command     []string `json:"command,omitempty"`
	Env         []string `json:"env,omitempty" doc:"KEY=VALUE"`
	Mount       string   `json:"mount,omitempty" doc:"of the volume"`
	RemoveAtEnd bool     `json:"removeAtEnd,omitempty" doc:"when a limit is reached, end the lease instead of stopping the pod"`
	NoResume    bool     `json:"noResume,omitempty" doc:"once outbid, stay so"`
	Name        string   `json:"name,omitempty" maxLength:"63"`
	Only        bool     `json:"only,omitempty" doc:"no other host than that"`
	Attendant   string   `json:"attendant,omitempty" maxLength:"64" doc:"another member that attends the pod and signs for it, also while this node is off: address, its beginning, or alias; empty: this node"`

	Mandate     bool          `json:"mandate,omitempty" doc:"while this node is off, pay minutes in which witnesses saw the host; otherwise the pod stops"`
	MandateMost ledger.Amount `json:"mandateMost,omitempty" minimum:"0" doc:"the most that such minutes may cost; 0: a day of the lease"`
}

// A Mandate is what a pod may cost while this node is off.
type Mandate struct {
	Most ledger.Amount `json:"most,omitempty" minimum:"0" doc:"since the last voucher; 0: a day of the lease"`
}

func (w Wish) host() (identity.Address, error) {
	if w.Host == "" {
		return identity.Address{}, nil
	}
	a, err := identity.ParseAddress(w.Host)
	if err != nil {
		return a, usage("%v", err)
	}
	return a, nil
}

func (w Wish) plan() (consumer.Plan, error) {
	h, err := w.host()
	return consumer.Plan{
		Type: w.Type, Query: w.Query, Model: w.Model, GPUs: w.GPUs, MaxRate: w.MaxRate, Disk: w.Disk, Volume: w.Volume,
		Minutes: w.Minutes, Budget: w.Budget, Host: h, Simulated: w.Simulated,
	}, err
}

func (o Order) run(lease wire.ID) (consumer.Run, error) {
	h, err := o.host()
	end := market.OnEndStop
	if o.RemoveAtEnd {
		end = market.OnEndRemove
	}
	return consumer.Run{
		Lease: lease, Reservation: o.Reservation, Bid: o.Bid, Type: o.Type, Query: o.Query, Model: o.Model, GPUs: o.GPUs,
		MaxRate: o.MaxRate, Minutes: o.Minutes, Budget: o.Budget, OnEnd: end, NoResume: o.NoResume, Name: o.Name, Host: h,
		Only: o.Only, Attendant: o.Attendant, Simulated: o.Simulated, Away: consumer.Away{Off: !o.Mandate, Most: o.MandateMost},
		Spec: market.Spec{Image: o.Image, Command: o.Command, Env: o.Env, Disk: o.Disk, Volume: o.Volume, Mount: o.Mount, Tag: o.Tag},
	}, err
}

// A Bill is the file that proves what a lease cost, as text.
type Bill struct {
	Summary market.Summary  `json:"summary"`
	File    string          `json:"file" doc:"what 'souk bill verify' reads, to the byte"`
	Wiped   *consumer.Wiped `json:"wiped,omitempty" doc:"the host's signed word that the volume is removed"`
}

// The events of a pod's streams.
const (
	eventLease  = "lease"
	eventStdout = "stdout"
	eventStderr = "stderr"
)

// A Chunk is a piece of a pod's output.
type Chunk struct {
	Data []byte `json:"data" doc:"base64"`
}

// A refInput names a lease by its name, or by the beginning of its id.
type refInput struct {
	Ref string `path:"ref" maxLength:"64" doc:"name of a pod, or the beginning of its id"`
}

type logsInput struct {
	Ref    string `path:"ref" maxLength:"64" doc:"name of a pod, or the beginning of its id"`
	Follow bool   `query:"follow" doc:"go on until the pod ends"`
	Tail   int    `query:"tail" minimum:"0" doc:"last lines; 0: all that is kept"`
}

func (s *server) leaseRoutes(a huma.API) {
	route(a, patient(op("plan", "POST", "/v1/plans", "What an order would get now, and what it could cost")),
		func(ctx context.Context, in *struct{ Body Wish }) (consumer.Proposal, error) {
			cmd, err := in.Body.plan()
			if err != nil {
				return consumer.Proposal{}, err
			}
			return do[consumer.Proposal](ctx, s.b, cmd)
		})
	route(a, patient(op("run", "PUT", "/v1/leases/{lease}", "Buy a lease and run a pod on it; the answer comes when both sides have signed")),
		func(ctx context.Context, in *struct {
			Lease string `path:"lease" doc:"random, 32 hex digits"`
			Body  Order
		}) (consumer.View, error) {
			var id wire.ID
			if err := id.UnmarshalText([]byte(in.Lease)); err != nil {
				return consumer.View{}, usage("%v", err)
			}
			cmd, err := in.Body.run(id)
			if err != nil {
				return consumer.View{}, err
			}
			return do[consumer.View](ctx, s.b, cmd)
		})
	route(a, op("leases", "GET", "/v1/leases", "This node's pods"),
		func(ctx context.Context, in *struct {
			All bool `query:"all" doc:"ended and failed ones too"`
		}) ([]consumer.View, error) {
			return do[[]consumer.View](ctx, s.b, consumer.List{All: in.All})
		})
	command[refInput, consumer.View](s, a, op("lease", "GET", "/v1/leases/{ref}", "One pod"),
		func(in *refInput) any { return consumer.Resolve{Ref: in.Ref} })
	s.orderRoutes(a)
	route(a, op("bill", "GET", "/v1/leases/{ref}/bill", "What proves the cost of a lease"),
		func(ctx context.Context, in *refInput) (Bill, error) { return s.bill(ctx, in.Ref) })
	stream(s, a, op("watch", "GET", "/v1/leases/{ref}/watch", "One pod, now and whenever anything of it changes"),
		map[string]any{eventLease: consumer.View{}}, s.watch)
	stream(s, a, op("logs", "GET", "/v1/leases/{ref}/logs", "A pod's output"),
		map[string]any{eventStdout: Chunk{}, eventStderr: Chunk{}}, s.logs)
}

func (s *server) orderRoutes(a huma.API) {
	order := func(o huma.Operation, cmd func(lease wire.ID) any) {
		route(a, o, func(ctx context.Context, in *refInput) (consumer.Ordered, error) {
			v, err := s.find(ctx, in.Ref)
			if err != nil {
				return consumer.Ordered{}, err
			}
			return do[consumer.Ordered](ctx, s.b, cmd(v.Lease))
		})
	}
	order(op("stop", "POST", "/v1/leases/{ref}/stop", "Stop a pod and keep its volume"), func(id wire.ID) any { return consumer.Stop{Lease: id} })
	order(op("start", "POST", "/v1/leases/{ref}/start", "Start a stopped pod"), func(id wire.ID) any { return consumer.Start{Lease: id} })
	order(op("start-zero", "POST", "/v1/leases/{ref}/start-zero", "Start a stopped pod without GPUs, to reach its data"),
		func(id wire.ID) any { return consumer.Start{Lease: id, Zero: true} })
	entrust := func(ctx context.Context, ref string, away consumer.Away) (consumer.View, error) {
		v, err := s.find(ctx, ref)
		if err != nil {
			return v, err
		}
		return do[consumer.View](ctx, s.b, consumer.Entrust{Lease: v.Lease, Away: away})
	}
	route(a, op("mandate", "PUT", "/v1/leases/{ref}/mandate", "Let witnesses vouch for a pod's minutes while this node is off"),
		func(ctx context.Context, in *struct {
			Ref  string `path:"ref" maxLength:"64" doc:"name of a pod, or the beginning of its id"`
			Body Mandate
		}) (consumer.View, error) {
			return entrust(ctx, in.Ref, consumer.Away{Most: in.Body.Most})
		})
	route(a, op("revoke-mandate", "DELETE", "/v1/leases/{ref}/mandate", "Revoke a pod's mandate: without this node it stops"),
		func(ctx context.Context, in *refInput) (consumer.View, error) {
			return entrust(ctx, in.Ref, consumer.Away{Off: true})
		})
	order(op("remove", "DELETE", "/v1/leases/{ref}", "End a lease and wipe its volume"), func(id wire.ID) any { return consumer.Remove{Lease: id} })
}

func (s *server) find(ctx context.Context, ref string) (consumer.View, error) {
	return do[consumer.View](ctx, s.b, consumer.Resolve{Ref: ref})
}

func (s *server) bill(ctx context.Context, ref string) (Bill, error) {
	v, err := s.find(ctx, ref)
	if err != nil {
		return Bill{}, err
	}
	file, err := s.b.Bill(ctx, v.Lease)
	if err != nil {
		return Bill{}, err
	}
	b, err := market.DecodeBill(file)
	if err != nil {
		return Bill{}, err
	}
	return Bill{b.Summary(), string(file), v.Wiped}, nil
}

// watch sends a lease whenever it differs from what was sent last. What the core tells by a notice comes at once; bytes
// pulled and money owed are looked for, while they can change.
func (s *server) watch(ctx context.Context, in *refInput, out *sender) error {
	v, err := s.find(ctx, in.Ref)
	if err != nil {
		return err
	}
	news := s.news(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var sent consumer.View
	for {
		if !reflect.DeepEqual(v, sent) {
			if err := out.send(eventLease, 0, v); err != nil {
				return err
			}
			sent = v
		}
		if v.State == market.StateEnded.String() && v.Settled {
			return nil
		}
		select {
		case <-news:
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if v, err = do[consumer.View](ctx, s.b, consumer.Show{Lease: v.Lease}); err != nil {
			return err
		}
	}
}

// news is sent to soon after each notice of the node.
func (s *server) news(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	go func() {
		for range s.b.Events(ctx, s.b.Info(ctx).LastEvent, true) {
			select {
			case ch <- struct{}{}:
			default: // one is waiting already
			}
		}
	}()
	return ch
}

func (s *server) logs(ctx context.Context, in *logsInput, out *sender) error {
	v, err := s.find(ctx, in.Ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces := make(chan piece)
	done := make(chan error, 1)
	go func() {
		done <- s.b.Logs(ctx, v.Lease, in.Follow, in.Tail, pipe{ctx, pieces, eventStdout}, pipe{ctx, pieces, eventStderr})
	}()
	for {
		select {
		case p := <-pieces:
			if err := out.send(p.event, 0, Chunk{p.data}); err != nil {
				return err
			}
		case err := <-done:
			var p *step.Problem
			if err != nil && !errors.As(err, &p) {
				err = step.Fail(step.ProblemUnreachable, "", "the output broke off: %v", err)
			}
			return err
		}
	}
}

// A piece of output on its way to the one goroutine that may write to the client.
type piece struct {
	event string
	data  []byte
}

// A pipe makes pieces of what is written.
type pipe struct {
	ctx   context.Context // of the request that it serves, and no longer
	to    chan<- piece
	event string
}

// Write implements io.Writer.
func (p pipe) Write(b []byte) (int, error) {
	select {
	case p.to <- piece{p.event, append([]byte(nil), b...)}:
		return len(b), nil
	case <-p.ctx.Done():
		return 0, io.ErrClosedPipe
	}
}
