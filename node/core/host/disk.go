package host

import (
	"slices"

	"souk/market"
	"souk/node/core/step"
	"souk/p2p/wire"
)

// fits reports whether there is room for so many bytes more, when the victims of an ask have gone: on the disk as it is
// now, and beside what all leases and open quotes were promised on the disk as it was when it was emptiest. A disk whose
// size is not known has room for anything.
func (h *Host) fits(a market.Ask, bytes uint64) bool {
	const gib = 1 << 30
	now, most := uint64(h.machine.DiskGiB)*gib, uint64(h.sale.Get().Room)*gib
	switch {
	case now == 0:
		return true
	case bytes > now:
		return false
	case h.promised(nil)+bytes <= most:
		return true
	}
	p, err := h.alloc.Get().Plan(a)
	return err != nil || h.promised(p.Victims)+bytes <= most // without GPUs, room is not what is missing
}

// promised is the bytes of the disks of all pods that are up, but those of victims, and of all volumes that are not wiped.
func (h *Host) promised(victims []wire.ID) uint64 {
	n := uint64(0)
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if !l.Wiped {
			n += l.Terms.Volume
		}
		if l.State.Owns() && !slices.Contains(victims, id) {
			n += l.Terms.Disk
		}
	}
	for _, id := range h.holds.Keys() {
		o := h.holds.Get(id)
		if o.Dead {
			continue
		}
		q, err := wire.Decode[market.Request](o.Request)
		if err != nil {
			panic("host: kept request: " + err.Error())
		}
		n += q.Spec.Disk + q.Spec.Volume
	}
	return n
}

// measure remembers how much room the disk had when there was most.
func (h *Host) measure() {
	if s := h.sale.Get(); h.machine.DiskGiB > s.Room {
		s.Room = h.machine.DiskGiB
		h.sale.Touch()
	}
}

// roomFor refuses a start whose container disk has been sold to others meanwhile.
func (h *Host) roomFor(a market.Ask, l *lease) *step.Refusal {
	if !h.fits(a, l.Terms.Disk) {
		return step.Refuse(step.RefuseNoGPUs, "this host has no room for the pod's disk now")
	}
	return nil
}
