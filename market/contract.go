package market

import (
	"errors"
	"fmt"
	"strings"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Spec is what a pod runs. It goes to the chosen host alone; the terms carry its hash.
type Spec struct {
	Image   string   `cbor:"1,keyasint"` // REPO@sha256:…
	Command []string `cbor:"2,keyasint"`
	Env     []string `cbor:"3,keyasint"` // K=V
	Disk    uint64   `cbor:"4,keyasint"` // bytes of container disk, lost at each stop
	Volume  uint64   `cbor:"5,keyasint"` // bytes of volume, kept until the lease ends; 0: none
	Mount   string   `cbor:"6,keyasint"` // where the volume is mounted
	SSHKeys []string `cbor:"7,keyasint"`
	Tag     string   `cbor:"8,keyasint"` // the reference as the user wrote it
}

// Hash is what the terms carry.
func (s Spec) Hash() identity.Hash { return identity.Keccak([]byte("souk/spec/1"), wire.Marshal(s)) }

// Digest is the image's sha256:… part.
func (s Spec) Digest() string {
	_, d, _ := strings.Cut(s.Image, "@")
	return d
}

// Validate checks that the image is pinned and sizes are bounded.
func (s Spec) Validate() error {
	n := 0
	for _, list := range [][]string{s.Command, s.Env, s.SSHKeys} {
		if len(list) > 256 {
			return errors.New("spec: a list has more than 256 entries")
		}
		for _, e := range list {
			n += len(e)
			if strings.ContainsRune(e, 0) {
				return errors.New("spec: a text contains a zero byte")
			}
		}
	}
	for _, e := range s.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("spec: environment %q is not KEY=VALUE", e)
		}
	}
	hex, pinned := strings.CutPrefix(s.Digest(), "sha256:")
	switch {
	case !pinned || len(hex) != 64 || len(s.Image) > 512 || len(s.Tag) > 512:
		return errors.New("spec: the image is not pinned as REPO@sha256:…")
	case n > 48<<10:
		return errors.New("spec: command, environment and keys are over 48 KiB together")
	case s.Disk < 1<<20 || s.Disk > 1<<50 || s.Volume > 1<<50:
		return errors.New("spec: disk of 1 MiB to 1 PiB, volume up to 1 PiB")
	case s.Volume > 0 && !cleanMount(s.Mount):
		return fmt.Errorf("spec: the volume's mount point %q is not an absolute path below /", s.Mount)
	}
	return nil
}

func cleanMount(p string) bool {
	if len(p) < 2 || len(p) > 128 || p[0] != '/' || strings.HasSuffix(p, "/") {
		return false
	}
	for _, part := range strings.Split(p[1:], "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, ":,\n") {
			return false
		}
	}
	switch strings.Split(p, "/")[1] {
	case "proc", "sys", "dev", "etc", "bin", "sbin", "lib", "lib64", "usr":
		return false
	}
	return true
}

// OnEnd is what happens when a limit of the lease is reached.
type OnEnd uint8

// The ends.
const (
	OnEndStop   OnEnd = 1 // stop, keep the volume
	OnEndRemove OnEnd = 2
)

// A Request asks a host for a lease. Asking again with the same lease id is asking once.
type Request struct {
	Consumer    identity.Address `cbor:"1,keyasint"`
	Host        identity.Address `cbor:"2,keyasint"`
	Lease       wire.ID          `cbor:"3,keyasint"`
	Bid         wire.ID          `cbor:"4,keyasint"`
	Reservation wire.ID          `cbor:"5,keyasint"`
	Type        BidKind          `cbor:"6,keyasint"`
	Model       string           `cbor:"7,keyasint"`
	GPUs        uint16           `cbor:"8,keyasint"`
	Rate        ledger.Rate      `cbor:"9,keyasint"` // per GPU-hour: spot pays this; on-demand pays the host's price, at most this
	Spec        Spec             `cbor:"10,keyasint"`
	Minutes     uint64           `cbor:"11,keyasint"` // longest run; 0: no limit
	Budget      ledger.Amount    `cbor:"12,keyasint"` // 0: no limit
	OnEnd       OnEnd            `cbor:"13,keyasint"`
	Resume      bool             `cbor:"14,keyasint"` // when outbid, resume by itself once the bid wins again
	By          identity.Address `cbor:"15,keyasint"` // who will sign vouchers
	At          member.Time      `cbor:"16,keyasint"`
}

// Kind implements wire.Message.
func (r Request) Kind() wire.Kind { return wire.KindLeaseRequest }

// Signer is the consumer.
func (r Request) Signer() identity.Address { return r.Consumer }

// Validate checks shape.
func (r Request) Validate() error {
	switch {
	case r.Lease.IsZero() || r.Bid.IsZero() || r.Reservation.IsZero() || r.Host.IsZero() || r.By.IsZero():
		return errors.New("request names no lease, bid, reservation, host or voucher signer")
	case r.Type != OnDemand && r.Type != Spot:
		return errors.New("request is neither on-demand nor spot")
	case r.GPUs == 0 || r.GPUs > 16:
		return errors.New("request wants 1 to 16 GPUs")
	case r.Rate <= 0 || r.Budget < 0:
		return ledger.ErrNegative
	case r.OnEnd != OnEndStop && r.OnEnd != OnEndRemove:
		return errors.New("request says neither stop nor remove at its end")
	case len(r.Model) == 0 || len(r.Model) > 64:
		return errors.New("request names no GPU model")
	}
	return r.Spec.Validate()
}

// Terms is the contract of a lease. Both sides sign it: the consumer by its Accept, the host by its Cert.
type Terms struct {
	Lease       wire.ID          `cbor:"1,keyasint"`
	Seq         uint64           `cbor:"2,keyasint"` // 1; an amendment has the next
	Prev        identity.Hash    `cbor:"3,keyasint"` // ref of the terms before; 0 for the first
	Host        identity.Address `cbor:"4,keyasint"`
	Consumer    identity.Address `cbor:"5,keyasint"`
	By          identity.Address `cbor:"6,keyasint"` // signs vouchers
	Attendant   identity.Address `cbor:"7,keyasint"` // sends Alive; the consumer, unless delegated
	Bid         wire.ID          `cbor:"8,keyasint"`
	Type        BidKind          `cbor:"9,keyasint"`
	GPUs        uint16           `cbor:"10,keyasint"`
	Model       string           `cbor:"11,keyasint"`
	Rate        ledger.Rate      `cbor:"12,keyasint"` // per GPU-hour
	Tariff      ledger.Tariff    `cbor:"13,keyasint"`
	Disk        uint64           `cbor:"14,keyasint"`
	Volume      uint64           `cbor:"15,keyasint"`
	VolumeID    wire.ID          `cbor:"16,keyasint"`
	Notice      uint16           `cbor:"17,keyasint"`
	Grace       uint16           `cbor:"18,keyasint"`
	Minutes     uint64           `cbor:"19,keyasint"` // longest run; 0: no limit
	StopAt      member.Time      `cbor:"20,keyasint"` // 0: no date
	Budget      ledger.Amount    `cbor:"21,keyasint"` // 0: no limit
	OnEnd       OnEnd            `cbor:"22,keyasint"`
	Resume      bool             `cbor:"23,keyasint"`
	Hold        uint64           `cbor:"24,keyasint"` // minutes that the volume outlives the lease
	Isolation   string           `cbor:"25,keyasint"` // docker, process (testnets), gvisor
	Spec        identity.Hash    `cbor:"26,keyasint"`
	Image       string           `cbor:"27,keyasint"` // sha256:…
	SSHHostKey  identity.Hash    `cbor:"28,keyasint"`
	Quote       identity.Hash    `cbor:"29,keyasint"` // ref of the quote; 0 inside the quote itself
	Reservation wire.ID          `cbor:"30,keyasint"`
	Policy      uint64           `cbor:"31,keyasint"`
	Parent      wire.ID          `cbor:"32,keyasint"` // lease that this one was moved from
	Simulated   bool             `cbor:"33,keyasint"`
	Extension   identity.Hash    `cbor:"34,keyasint"`
}

// Kind implements wire.Message.
func (t Terms) Kind() wire.Kind { return wire.KindTerms }

// Signer is the consumer.
func (t Terms) Signer() identity.Address { return t.Consumer }

// Validate checks shape and that the GPU rate is that of all GPUs.
func (t Terms) Validate() error {
	switch {
	case t.Lease.IsZero() || t.Seq == 0 || t.Bid.IsZero() || t.Reservation.IsZero():
		return errors.New("terms have no lease, sequence, bid or reservation")
	case t.Host.IsZero() || t.Consumer.IsZero() || t.By.IsZero() || t.Attendant.IsZero():
		return errors.New("terms lack a party")
	case t.Type != OnDemand && t.Type != Spot:
		return errors.New("terms are neither on-demand nor spot")
	case t.OnEnd != OnEndStop && t.OnEnd != OnEndRemove:
		return errors.New("terms say neither stop nor remove at the end")
	case t.Grace < 5:
		return errors.New("terms: grace under 5 s")
	case t.Budget < 0:
		return ledger.ErrNegative
	case len(t.Model) > 64 || len(t.Isolation) > 16 || len(t.Image) > 80:
		return errors.New("terms: a text is too long")
	}
	if gpu, err := t.Rate.Times(uint32(t.GPUs)); err != nil || gpu != t.Tariff.GPU {
		return errors.New("terms: the GPU rate is not the rate of all its GPUs")
	}
	return t.Tariff.Validate()
}

// Typed implements wire.TypedMessage.
func (t Terms) Typed() *wire.Struct {
	return wire.NewStruct("LeaseTerms").
		Bytes16("lease", t.Lease).Uint64("sequence", t.Seq).Bytes32("prev", t.Prev).Address("host", t.Host).
		Address("consumer", t.Consumer).Address("signer", t.By).Address("attendant", t.Attendant).Bytes16("bid", t.Bid).
		String("kind", t.Type.String()).Uint64("gpus", uint64(t.GPUs)).String("model", t.Model).
		Uint128("rate", uint64(t.Rate)).Uint128("gpuRate", uint64(t.Tariff.GPU)).
		Uint128("zeroGpuRate", uint64(t.Tariff.ZeroGPU)).Uint128("diskRunningRate", uint64(t.Tariff.DiskRunning)).
		Uint128("volumeRunningRate", uint64(t.Tariff.VolumeRunning)).
		Uint128("volumeStoppedRate", uint64(t.Tariff.VolumeStopped)).
		Uint64("disk", t.Disk).Uint64("volume", t.Volume).Bytes16("volumeId", t.VolumeID).
		Uint64("notice", uint64(t.Notice)).Uint64("grace", uint64(t.Grace)).Uint64("minutes", t.Minutes).
		Uint64("stopAt", uint64(t.StopAt)).Uint128("budget", uint64(t.Budget)).Uint64("onEnd", uint64(t.OnEnd)).
		Bool("resume", t.Resume).Uint64("hold", t.Hold).String("isolation", t.Isolation).Bytes32("spec", t.Spec).
		String("image", t.Image).Bytes32("sshHostKey", t.SSHHostKey).Bytes32("quote", t.Quote).
		Bytes16("reservation", t.Reservation).Uint64("policy", t.Policy).Bytes16("parent", t.Parent).
		Bool("simulated", t.Simulated).Bytes32("extension", t.Extension)
}

// A Quote is a host's binding answer to a Request: it holds the GPUs until Expires. It carries the terms with their Quote
// field empty; the terms to sign have there the quote's own ref.
type Quote struct {
	Host    identity.Address `cbor:"1,keyasint"`
	Lease   wire.ID          `cbor:"2,keyasint"`
	Request identity.Hash    `cbor:"3,keyasint"` // ref of the request
	Terms   []byte           `cbor:"4,keyasint"` // payload of the terms
	At      member.Time      `cbor:"5,keyasint"`
	Expires member.Time      `cbor:"6,keyasint"`
	Wait    uint16           `cbor:"7,keyasint"` // seconds until the GPUs are free: notice and grace of victims
	LogSeq  uint64           `cbor:"8,keyasint"`
	LogHead identity.Hash    `cbor:"9,keyasint"`
}

// Kind implements wire.Message.
func (q Quote) Kind() wire.Kind { return wire.KindQuote }

// Signer is the host.
func (q Quote) Signer() identity.Address { return q.Host }

// Validate checks shape; the terms inside must decode.
func (q Quote) Validate() error {
	if q.Lease.IsZero() || q.Request.IsZero() {
		return errors.New("quote names no lease or request")
	}
	t, err := wire.Decode[Terms](wire.Object{Kind: wire.KindTerms, Payload: q.Terms})
	switch {
	case err != nil:
		return fmt.Errorf("quote: %w", err)
	case t.Lease != q.Lease || t.Host != q.Host || !t.Quote.IsZero():
		return errors.New("quote: its terms are another lease's")
	}
	return nil
}

// Contract is the terms to sign for a quote with the given ref.
func (q Quote) Contract(ref identity.Hash) (Terms, error) {
	t, err := wire.Decode[Terms](wire.Object{Kind: wire.KindTerms, Payload: q.Terms})
	if err != nil {
		return Terms{}, err
	}
	t.Quote = ref
	return t, nil
}

// A Cert makes a lease: the host's signature on terms that the consumer has signed. Its ref is the first link of the
// lease's usage chain. It is a right to the GPUs, not yet their possession.
type Cert struct {
	Host    identity.Address `cbor:"1,keyasint"`
	Lease   wire.ID          `cbor:"2,keyasint"`
	Terms   identity.Hash    `cbor:"3,keyasint"`
	Minute  member.Minute    `cbor:"4,keyasint"` // in which it was made: the first minute of the chain
	At      member.Time      `cbor:"5,keyasint"`
	LogSeq  uint64           `cbor:"6,keyasint"` // of the log's cert entry
	LogHead identity.Hash    `cbor:"7,keyasint"` // log head before that entry
}

// Kind implements wire.Message.
func (c Cert) Kind() wire.Kind { return wire.KindCert }

// Signer is the host.
func (c Cert) Signer() identity.Address { return c.Host }

// Validate checks shape.
func (c Cert) Validate() error {
	if c.Lease.IsZero() || c.Terms.IsZero() {
		return errors.New("cert names no lease or terms")
	}
	return nil
}

// An Amendment changes the terms of a lease from a minute on. Both sides sign it.
type Amendment struct {
	Lease     wire.ID          `cbor:"1,keyasint"`
	Seq       uint64           `cbor:"2,keyasint"`
	Prev      identity.Hash    `cbor:"3,keyasint"` // ref of the terms in force
	Terms     identity.Hash    `cbor:"4,keyasint"` // ref of the full new terms
	From      member.Minute    `cbor:"5,keyasint"`
	By        identity.Address `cbor:"6,keyasint"` // whose signature this copy carries
	Extension identity.Hash    `cbor:"7,keyasint"`
}

// Kind implements wire.Message.
func (a Amendment) Kind() wire.Kind { return wire.KindAmendment }

// Signer is the party whose copy this is.
func (a Amendment) Signer() identity.Address { return a.By }

// Validate checks shape.
func (a Amendment) Validate() error {
	if a.Lease.IsZero() || a.Seq < 2 || a.Prev.IsZero() || a.Terms.IsZero() {
		return errors.New("amendment names no lease, sequence or terms")
	}
	return nil
}

// Typed implements wire.TypedMessage.
func (a Amendment) Typed() *wire.Struct {
	return wire.NewStruct("Amendment").
		Bytes16("lease", a.Lease).Uint64("sequence", a.Seq).Bytes32("prev", a.Prev).Bytes32("terms", a.Terms).
		Uint64("from", uint64(a.From)).Address("signer", a.By).Bytes32("extension", a.Extension)
}
