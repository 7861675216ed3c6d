package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"souk/node/core"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/member"
)

// A Status is how a node does and where it stands in its market.
type Status struct {
	Info
	Standing    observer.Standing  `json:"standing"`
	Offers      int                `json:"offers" doc:"live ones that it knows"`
	BankEntries uint64             `json:"bankEntries" doc:"of the bank's journal, of an operator; 0: not known"`
	Banks       []observer.Audited `json:"banks,omitempty" doc:"what it holds of the operators' checkpoints"`
	Condition   core.Condition     `json:"condition" doc:"what keeps it from signing"`
}

// A Device is one GPU of this machine.
type Device struct {
	UUID      string `json:"uuid"`
	Model     string `json:"model"` // market name
	MemoryMiB uint32 `json:"memoryMiB"`
	Simulated bool   `json:"simulated"`
	Compute   uint16 `json:"computeCapability,omitempty"` // times 100, as 890; 0: not told
}

// A Machine is the computer around the GPUs.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     uint16 `json:"cores"`
	MemoryMiB uint32 `json:"memoryMiB"`
	DiskGiB   uint32 `json:"diskGiB"` // free for pods
	OS        string `json:"os"`
	Runtime   string `json:"runtime"`
	Engine    string `json:"engine"`
	Driver    string `json:"driver"`
	CUDA      string `json:"cuda"`
	GPUs      uint16 `json:"gpus,omitempty"` // in the machine; 0: not told
}

// A Check is one line of the self-test.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// A Gate is one condition of hosting, as the self-test finds it.
type Gate struct {
	Name   string `json:"name"`
	State  string `json:"state" enum:"yes,warns,no" doc:"warns: not as it should be, and goes in this market"`
	Actual string `json:"actual"`
	Needed string `json:"needed"`
	Fix    string `json:"fix,omitempty"`
}

// Gates are all of them.
type Gates struct {
	Gates []Gate `json:"gates"`
}

// An Inventory is what a node has to offer, and what its self-test says.
type Inventory struct {
	Devices []Device `json:"devices"`
	Machine Machine  `json:"machine"`
	Checks  []Check  `json:"checks"`
}

func newInventory(ds []member.Device, m member.Machine, cs []member.Check) Inventory {
	v := Inventory{Devices: devices(ds), Machine: Machine(m), Checks: []Check{}}
	for _, c := range cs {
		v.Checks = append(v.Checks, Check(c))
	}
	return v
}

func devices(ds []member.Device) []Device {
	out := make([]Device, 0, len(ds))
	for _, d := range ds {
		out = append(out, Device(d))
	}
	return out
}

// An Image is a reference to a container image and what it stands for now.
type Image struct {
	Ref    string `json:"ref"`
	Pinned string `json:"pinned"` // REPO@sha256:…
	Size   int64  `json:"size"`   // bytes to download
}

// Done says that something was done.
type Done struct {
	Done bool `json:"done"`
}

// The events of a node's streams.
const (
	eventNotice = "notice"
	eventStatus = "status"
)

type eventsInput struct {
	After  uint64 `query:"after" doc:"number of the last notice that is known"`
	Follow bool   `query:"follow" doc:"go on with those to come"`
	Last   uint64 `header:"Last-Event-ID" doc:"as after, of a client that connects again"`
}

func (s *server) nodeRoutes(a huma.API) {
	route(a, op("status", "GET", "/v1/node", "How the node does, and where it stands in its market"),
		func(ctx context.Context, _ *none) (Status, error) { return s.status(ctx) })
	route(a, op("shutdown", "POST", "/v1/node/shutdown", "End the node; its pods run on"),
		func(context.Context, *none) (Done, error) {
			s.b.Shutdown()
			return Done{true}, nil
		})
	route(a, op("inventory", "GET", "/v1/node/inventory", "GPUs, machine and self-test"),
		func(ctx context.Context, _ *none) (Inventory, error) {
			ds, m, cs, err := s.b.Inventory(ctx)
			return newInventory(ds, m, cs), err
		})
	route(a, op("self-test", "GET", "/v1/node/self-test", "Whether this machine is fit to run strangers' pods"),
		func(ctx context.Context, _ *none) (Gates, error) {
			return Gates{append([]Gate{}, s.b.SelfTest(ctx)...)}, nil
		})
	route(a, patient(op("resolve-image", "GET", "/v1/images", "What an image reference stands for now")),
		func(ctx context.Context, in *struct {
			Ref string `query:"ref" required:"true" maxLength:"512" doc:"as in pytorch/pytorch:latest"`
		}) (Image, error) {
			pinned, size, err := s.b.ResolveImage(ctx, in.Ref)
			return Image{in.Ref, pinned, size}, err
		})
	stream(s, a, op("watch-status", "GET", "/v1/node/watch", "The status, now and whenever peers or standing change"),
		map[string]any{eventStatus: Status{}}, s.watchStatus)
	stream(s, a, op("events", "GET", "/v1/events", "What the node has to tell its user"), map[string]any{eventNotice: step.Notice{}}, s.events)
}

func (s *server) status(ctx context.Context) (Status, error) {
	if info := s.b.Info(ctx); info.Stalled { // no answer of the core can leave before what waits for the disk
		c := core.Condition{Disk: step.RoomFull.String(), Room: "none for what waits to be written", Hint: "make room on the disk of the home; it goes on by itself"}
		return Status{Info: info, Standing: observer.Standing{State: "stalled", Address: info.Address}, Condition: c}, nil
	}
	w, err := do[observer.Standing](ctx, s.b, observer.Where{})
	if err != nil {
		return Status{}, err
	}
	v := Status{Info: s.b.Info(ctx), Standing: w}
	if c, err := do[core.Condition](ctx, s.b, core.Health{}); err == nil {
		v.Condition = c
	}
	if l, err := do[observer.Listed](ctx, s.b, observer.Offers{Lift: true}); err == nil {
		v.Offers = l.Total
		for _, x := range l.Listings {
			for i := range v.Peers {
				if v.Peers[i].Address == x.Offer.Host {
					v.Peers[i].Alias = x.Alias
				}
			}
		}
	}
	if slices.Contains(strings.Split(w.Roles, ","), "operator") {
		if h, err := do[operator.HeightView](ctx, s.b, operator.Height{}); err == nil {
			v.BankEntries = h.Entries
		}
	}
	if l, err := do[[]observer.Audited](ctx, s.b, observer.Audits{}); err == nil {
		v.Banks = l
	}
	if v.Addrs == nil {
		v.Addrs = []string{}
	}
	if v.Peers == nil {
		v.Peers = []PeerInfo{}
	}
	return v, nil
}

// watchStatus sends the status whenever the neighbours, the standing or the offers differ from what was sent last.
func (s *server) watchStatus(ctx context.Context, _ *none, out *sender) error {
	news := s.news(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var sent Status
	for {
		v, err := s.status(ctx)
		if err != nil {
			return err
		}
		if !out.open || !v.same(sent) {
			if err := out.send(eventStatus, 0, v); err != nil {
				return err
			}
			sent = v
		}
		select {
		case <-news:
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// same reports whether nothing of v differs from w that somebody may wait for.
func (v Status) same(w Status) bool {
	v.Standing.Skew, w.Standing.Skew = 0, 0
	c, d := v.Condition, w.Condition
	if c.Quarantine != d.Quarantine || c.Disk != d.Disk || !slices.Equal(c.Awaited, d.Awaited) {
		return false
	}
	return v.Standing == w.Standing && v.Offers == w.Offers && slices.EqualFunc(v.Peers, w.Peers, func(a, b PeerInfo) bool { return a.PeerID == b.PeerID })
}

func (s *server) events(ctx context.Context, in *eventsInput, out *sender) error {
	out.start()
	for n, err := range s.b.Events(ctx, max(in.After, in.Last), in.Follow) {
		if err != nil {
			return err
		}
		if err := out.send(eventNotice, n.Seq, n); err != nil {
			return err
		}
	}
	return nil
}
