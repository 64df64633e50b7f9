package backup

import (
	"context"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Keep says which snapshots stay. Those that one of its rules keeps stay.
type Keep struct {
	Last int // the newest ones
	Days int // those not older than so many days; MostDays and more: all
}

// MostDays is more days than any snapshot is old.
const MostDays = 36500

// Pruned is what a Prune has done.
type Pruned struct {
	Kept, Removed []time.Time // snapshots
	Packs         int         // that are gone, or were written anew with less
	Bytes         int64       // that this has freed
}

// Packs of little are put together once there are many: each backup makes one.
const (
	smallPack = packSize / 8
	manySmall = 16
)

// rewriteBelow is the share of a pack that is still needed below which it is written anew.
const rewriteBelow = 0.7

// Prune removes snapshots that are not to be kept, and then what no snapshot needs. The
// newest snapshot always stays. With plan it only tells. Faults: Busy, Corrupt if a
// snapshot cannot be read: what it needs is not known.
func Prune(ctx context.Context, d Disk, dir string, keep Keep, now time.Time, plan bool) (Pruned, error) {
	r, err := open(d, dir, toPrune)
	if err != nil {
		return Pruned{}, err
	}
	defer r.close()
	p := pruner{ctx: ctx, repo: r, needed: map[object]bool{}, anew: map[uint32]bool{}}
	err = p.run(keep, now, plan)
	return p.done, err
}

type pruner struct {
	ctx    context.Context
	repo   *repository
	needed map[object]bool
	anew   map[uint32]bool // packs to write anew: something in them is damaged, or they are small
	stay   []*snapshot
	done   Pruned
}

func (p *pruner) run(keep Keep, now time.Time, plan bool) error {
	if len(p.repo.bad) > 0 {
		return fault.Newf(fault.Corrupt, "%s: %s; make a backup with --full first, then remove this file", p.repo.bad[0].File, p.repo.bad[0].What)
	}
	all, bad, err := p.repo.snapshots()
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return fault.Newf(fault.Corrupt, "%s: %s; what it needs is not known, so nothing is removed; if it is of no use any more, remove this file", bad[0].File, bad[0].What)
	}
	gone := p.choose(all, keep, now)
	if plan {
		return nil
	}
	// First what is still needed, so that a damaged repository loses nothing.
	if err := p.mark(); err != nil {
		return err
	}
	for _, s := range gone {
		if err := p.repo.disk.FS.Remove(p.repo.disk.join(p.repo.dir, snapsDir, s.file)); err != nil {
			return unavailable("cannot remove a snapshot", err)
		}
	}
	if err := p.repo.disk.syncDir(p.repo.disk.join(p.repo.dir, snapsDir)); err != nil {
		return unavailable("cannot remove snapshots", err)
	}
	return p.sweep()
}

// choose tells which snapshots go.
func (p *pruner) choose(all []*snapshot, keep Keep, now time.Time) (gone []*snapshot) {
	for i, s := range all {
		fromEnd := len(all) - i
		stays := fromEnd == 1 || fromEnd <= keep.Last || keep.Days >= MostDays || keep.Days > 0 && now.Sub(s.head.Time) <= time.Duration(keep.Days)*24*time.Hour
		if stays {
			p.stay = append(p.stay, s)
			p.done.Kept = append(p.done.Kept, s.head.Time)
		} else {
			gone = append(gone, s)
			p.done.Removed = append(p.done.Removed, s.head.Time)
		}
	}
	return gone
}

// mark finds what the snapshots that stay need.
func (p *pruner) mark() error {
	for _, s := range p.stay {
		for i := range s.shards {
			n, err := s.shards[i].tree()
			if err == nil {
				err = p.markTree(n)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pruner) markTree(n name) error {
	if !p.first(object{kindTree, n}) {
		return nil
	}
	t, err := p.repo.tree(n)
	if err != nil {
		return err
	}
	for i := range t.chunks {
		c := t.chunks[i].name
		if !p.first(object{kindChunk, c}) {
			continue
		}
		bodies, _, err := p.repo.chunk(c)
		if err != nil {
			return err
		}
		for _, b := range bodies {
			p.first(object{kindBody, b})
			for _, need := range p.repo.needs[b] {
				p.first(object{kindBody, need})
			}
		}
	}
	return p.ctx.Err()
}

// first marks an object as needed and tells whether it was not before.
func (p *pruner) first(o object) bool {
	if p.needed[o] {
		return false
	}
	p.needed[o] = true
	return true
}

// sweep removes packs that nobody needs, and writes those anew of which little is needed.
func (p *pruner) sweep() error {
	if err := p.settle(); err != nil {
		return err
	}
	if err := p.gather(); err != nil {
		return err
	}
	w := repacker{pruner: p}
	defer w.abandon()
	for number := range uint32(len(p.repo.packs)) {
		list, err := readIndex(p.repo.disk, p.repo.path(number))
		if err != nil {
			return err
		}
		keep := p.keepOf(number, list)
		if len(keep) > 0 && !p.anew[number] && float64(sizeOf(keep)) >= rewriteBelow*float64(sizeOf(list)) {
			continue
		}
		if err := w.carry(number, keep); err != nil {
			return err
		}
		if err := p.ctx.Err(); err != nil {
			return err
		}
	}
	return w.finish()
}

// settle chooses a sound copy of each object that lies in several packs.
func (p *pruner) settle() error {
	for o := range p.repo.more {
		chosen := false
		for _, s := range p.repo.copies(o) {
			if err := p.repo.check(s); err != nil {
				p.anew[s.pack] = true
			} else if !chosen {
				p.repo.index[o], chosen = s, true
			}
		}
		if !chosen && p.needed[o] {
			return fault.Newf(fault.Corrupt, "the %s is damaged; make a backup with --full first", o)
		}
	}
	return nil
}

// gather has small packs written anew, together, if they are many.
func (p *pruner) gather() error {
	var small []uint32
	for number := range uint32(len(p.repo.packs)) {
		info, err := p.repo.disk.FS.Stat(p.repo.path(number))
		if err != nil {
			return unavailable("cannot read the backup", err)
		}
		if info.Size() < smallPack {
			small = append(small, number)
		}
	}
	for _, number := range small {
		if len(small) >= manySmall {
			p.anew[number] = true
		}
	}
	return nil
}

// keepOf returns which objects of a pack are needed from there.
func (p *pruner) keepOf(number uint32, list []packed) (keep []packed) {
	for i := range list {
		s := p.repo.index[list[i].object]
		if p.needed[list[i].object] && s.pack == number && s.off == list[i].off {
			keep = append(keep, list[i])
		}
	}
	return keep
}

// repacker carries what is needed of packs into others, and removes them.
type repacker struct {
	*pruner
	out *packWriter
	old []uint32 // whose objects are durable elsewhere once out is finished
}

func (w *repacker) carry(number uint32, keep []packed) (err error) {
	for i := range keep {
		if w.out == nil {
			if w.out, err = newPackWriter(w.repo.disk, w.repo.disk.join(w.repo.dir, packsDir)); err != nil {
				return err
			}
		}
		if err := w.one(number, &keep[i]); err != nil {
			return err
		}
	}
	if w.old = append(w.old, number); w.out == nil || w.out.at >= packSize {
		return w.finish()
	}
	return nil
}

func (w *repacker) one(number uint32, o *packed) error {
	s := spot{number, o.off, o.size, sumStart(o.sum)}
	r, err := w.repo.section(s, 0, o.size)
	if err != nil {
		return err
	}
	defer r.Close()
	q, err := w.out.put(o.object, o.needs, r)
	if err != nil {
		return err
	}
	w.repo.index[o.object] = spot{uint32(len(w.repo.packs)), q.off, q.size, s.sum}
	return nil
}

// finish makes what was carried durable, and only then removes where it came from.
func (w *repacker) finish() error {
	base := ""
	if w.out != nil {
		size := endOf(w.out.list)
		var err error
		base, err = w.out.finish()
		w.out = nil
		if err != nil {
			return err
		}
		w.done.Bytes -= size
		w.repo.packs = append(w.repo.packs, base)
	}
	w.old = slices.DeleteFunc(w.old, func(number uint32) bool { return w.repo.packs[number] == base }) // the same objects make the same pack
	if len(w.old) == 0 {
		return nil
	}
	gone := make([]string, len(w.old))
	for i, number := range w.old {
		gone[i] = w.repo.packs[number]
	}
	if err := w.repo.noteKnown(gone...); err != nil {
		return err
	}
	for _, number := range w.old {
		if err := w.remove(number); err != nil {
			return err
		}
	}
	w.old = nil
	if err := w.repo.disk.syncDir(w.repo.disk.join(w.repo.dir, packsDir)); err != nil {
		return unavailable("cannot remove packs of the backup", err)
	}
	return nil
}

func (w *repacker) abandon() {
	if w.out != nil {
		w.out.abandon()
	}
}

func sizeOf(list []packed) (n int64) {
	for i := range list {
		n += list[i].size
	}
	return n
}

func (p *pruner) remove(number uint32) error {
	path := p.repo.path(number)
	info, err := p.repo.disk.FS.Stat(path)
	if err == nil {
		err = p.repo.disk.FS.Remove(path)
	}
	if err != nil {
		return unavailable("cannot remove a pack of the backup", err)
	}
	p.done.Packs++
	p.done.Bytes += info.Size()
	p.repo.packs[number] = ""
	return nil
}
