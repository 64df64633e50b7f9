package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Verified counts what Verify has read.
type Verified struct {
	Snapshots int
	Packs     int
	Objects   int64
	Bytes     int64
	Problems  int64
}

// Verify reads every byte of the repository in dir, checks each checksum, and looks whether
// all that each snapshot needs is there. report is called for each problem, progress (may
// be nil) now and then.
func Verify(ctx context.Context, d Disk, dir string, report func(Problem), progress func(Progress)) (Verified, error) {
	r, err := open(d, dir, toRead)
	if err != nil {
		return Verified{}, err
	}
	defer r.close()
	v := verifier{ctx: ctx, repo: r, report: report, progress: progress, good: map[object]bool{}}
	for _, p := range r.bad {
		v.problem(p.File, p.What)
	}
	for i := range r.packs {
		if err := v.pack(uint32(i)); err != nil {
			return v.done, err
		}
		v.tell("packs", int64(i+1), int64(len(r.packs)))
	}
	all, bad, err := r.snapshots()
	if err != nil {
		return v.done, err
	}
	v.known(len(all) + len(bad))
	for _, p := range bad {
		v.problem(p.File, p.What)
	}
	for i, s := range all {
		if err := v.snapshot(s); err != nil {
			return v.done, err
		}
		v.tell("snapshots", int64(i+1), int64(len(all)))
	}
	v.done.Snapshots = len(all)
	return v.done, ctx.Err()
}

type verifier struct {
	ctx      context.Context
	repo     *repository
	report   func(Problem)
	progress func(Progress)
	good     map[object]bool // objects of which a sound copy was read
	done     Verified

	trees  map[name]bool // looked through, and whether all was there
	chunks map[name]bool
}

func (v *verifier) problem(file, what string) {
	v.done.Problems++
	v.report(Problem{file, what})
}

func (v *verifier) tell(step string, done, total int64) {
	if v.progress != nil {
		v.progress(Progress{step, done, total, v.done.Bytes})
	}
}

// known reports packs that have gone.
func (v *verifier) known(snapshots int) {
	if snapshots > 0 && len(v.repo.bad) == 0 && !v.repo.whole {
		v.problem(knownFile, "packs are missing that were there before, or this list of them is damaged; the next backup reads everything again")
	}
}

// pack reads all objects of one pack.
func (v *verifier) pack(number uint32) error {
	path := v.repo.path(number)
	file := v.repo.disk.join(packsDir, v.repo.packs[number])
	list, err := readIndex(v.repo.disk, path)
	if err != nil {
		v.problem(file, fault.Say(err))
		return v.ctx.Err()
	}
	f, err := v.repo.disk.FS.Open(path)
	if err != nil {
		return unavailable("cannot read the backup", err)
	}
	defer f.Close()
	for i := range list {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if err := v.object(f, &list[i]); err != nil {
			v.problem(file, fault.Say(err))
		} else {
			v.good[list[i].object] = true
		}
		v.done.Objects++
		v.done.Bytes += list[i].size
	}
	v.done.Packs++
	return nil
}

// object checks one object where it lies.
func (v *verifier) object(f io.ReaderAt, p *packed) error {
	at := io.NewSectionReader(f, p.off, p.size)
	if p.kind == kindBody || p.kind == kindHole {
		sum := sha256.New()
		if _, err := io.Copy(sum, at); err != nil {
			return unavailable("cannot read the "+p.String(), err)
		}
		if [sha256.Size]byte(sum.Sum(nil)) != p.sum {
			return fault.Newf(fault.Corrupt, "the %s is damaged", p.object)
		}
		return nil
	}
	b := make([]byte, p.size)
	if _, err := io.ReadFull(at, b); err != nil {
		return unavailable("cannot read the "+p.String(), err)
	}
	if sha256.Sum256(b) != p.sum {
		return fault.Newf(fault.Corrupt, "the %s is damaged", p.object)
	}
	_, err := v.repo.unpack(p.object, b)
	return err
}

// snapshot looks whether all is there that a snapshot needs.
func (v *verifier) snapshot(s *snapshot) error {
	if v.trees == nil {
		v.trees, v.chunks = map[name]bool{}, map[name]bool{}
	}
	lost := map[name]bool{}
	for _, text := range s.end.Lost {
		if b, err := hex.DecodeString(text); err == nil && len(b) == len(name{}) {
			lost[name(b)] = true
		}
	}
	lacking := 0
	for i := range s.shards {
		n, err := s.shards[i].tree()
		if err != nil {
			return err
		}
		if !v.tree(n, lost) {
			lacking++
		}
		if err := v.ctx.Err(); err != nil {
			return err
		}
	}
	if lacking > 0 {
		v.problem(v.repo.disk.join(snapsDir, s.file), counted(lacking)+" of the snapshot cannot be restored whole")
	}
	return nil
}

func counted(n int) string {
	if n == 1 {
		return "1 part"
	}
	return strconv.Itoa(n) + " parts"
}

// tree tells whether a shard can be restored whole.
func (v *verifier) tree(n name, lost map[name]bool) bool {
	if ok, known := v.trees[n]; known {
		return ok
	}
	ok := v.good[object{kindTree, n}]
	if ok {
		t, err := v.repo.tree(n)
		ok = err == nil
		for i := 0; ok && i < len(t.chunks); i++ {
			ok = v.chunk(t.chunks[i].name, lost)
		}
	}
	v.trees[n] = ok
	return ok
}

func (v *verifier) chunk(n name, lost map[name]bool) bool {
	if ok, known := v.chunks[n]; known {
		return ok
	}
	ok := v.good[object{kindChunk, n}]
	if ok {
		bodies, _, err := v.repo.chunk(n)
		ok = err == nil
		for i := 0; ok && i < len(bodies); i++ {
			ok = lost[bodies[i]] || v.body(bodies[i], lost)
		}
	}
	v.chunks[n] = ok
	return ok
}

func (v *verifier) body(n name, lost map[name]bool) bool {
	if !v.good[object{kindBody, n}] {
		return false
	}
	for _, need := range v.repo.needs[n] {
		if !v.good[object{kindBody, need}] && !lost[need] {
			return false
		}
	}
	return true
}
