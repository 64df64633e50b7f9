package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Families of keys. All records have version 1.
//
//	n name   a node
//	l name   a lease
//	f name   a file
//	v        the number that the next node gets, the form of stored records that is in force,
//	         how often any of this but files was changed
const (
	famNode  = 'n'
	famLease = 'l'
	famFile  = 'f'
	famView  = 'v'
)

const version = 1

// member is a node as its record has it.
type member struct {
	name      string // not in the record
	number    uint64
	run       run
	beat      uint64
	stopped   bool // it has ended what it did under leases, and its run
	draining  bool
	version   string
	format    uint64
	addresses []string
	started   int64 // seconds since 1970, by its own clock: for people
	at        int64 // of the last beat, likewise
}

// lease is what one node does at a time.
type lease struct {
	holder string // "": nobody
	run    run
	term   uint64 // one more with each taking
}

func (m member) encode() []byte {
	var e record.Enc
	e.U(m.number)
	e.Bytes(m.run[:])
	e.U(m.beat)
	e.Bool(m.stopped, m.draining)
	e.Str(m.version)
	e.U(m.format)
	e.U(uint64(len(m.addresses)))
	e.Str(m.addresses...)
	e.I(m.started)
	e.I(m.at)
	return record.Seal(version, e)
}

func decodeMember(name string, b []byte) (m member, err error) {
	d, err := open(b)
	if err != nil {
		return m, err
	}
	m = member{name: name, number: d.U(), run: runOf(d.Bytes()), beat: d.U(), stopped: d.Bool(), draining: d.Bool(), version: d.Str(), format: d.U()}
	for range d.Count() {
		m.addresses = append(m.addresses, d.Str())
	}
	m.started, m.at = d.I(), d.I()
	return m, d.End("node")
}

func (l lease) encode() []byte {
	var e record.Enc
	e.Str(l.holder)
	e.Bytes(l.run[:])
	e.U(l.term)
	return record.Seal(version, e)
}

func decodeLease(b []byte) (l lease, err error) {
	d, err := open(b)
	if err != nil {
		return l, err
	}
	l = lease{holder: d.Str(), run: runOf(d.Bytes()), term: d.U()}
	return l, d.End("lease")
}

func open(b []byte) (*record.Dec, error) {
	kind, payload, err := record.Open(b)
	if err == nil && kind > version {
		err = fault.Newf(fault.Unsupported, "a record of the nodes has version %d, and this program knows %d; start a newer one", kind, version)
	}
	if err == nil && kind < version {
		err = fault.Newf(fault.Corrupt, "a record of the nodes has version %d; this server knows %d", kind, version)
	}
	if err != nil {
		return nil, err
	}
	return &record.Dec{Rest: payload}, nil
}

// snapshot is all that nodes know of each other, as of one moment.
type snapshot struct {
	members map[string]member
	leases  map[string]lease
	next    uint64 // number of the next node
	format  uint64 // in force; 0: nobody has joined yet
	changes uint64
	began   time.Duration // not in the record: when the reading of it began
}

func (s *snapshot) encode() []byte {
	var e record.Enc
	e.U(s.next)
	e.U(s.format)
	e.U(s.changes)
	return record.Seal(version, e)
}

func (s *snapshot) decode(b []byte) error {
	d, err := open(b)
	if err != nil {
		return err
	}
	s.next, s.format, s.changes = d.U(), d.U(), d.U()
	return d.End("node")
}

// readAll reads a snapshot.
func readAll(r engine.Reader) (s snapshot, err error) {
	s = snapshot{members: map[string]member{}, leases: map[string]lease{}}
	var bad error
	err = r.Scan([]byte{famNode}, []byte{famNode + 1}, false, func(k, v []byte) bool {
		name := string(k[1:])
		s.members[name], bad = decodeMember(name, v)
		return bad == nil
	})
	if err == nil && bad == nil {
		err = r.Scan([]byte{famLease}, []byte{famLease + 1}, false, func(k, v []byte) bool {
			s.leases[string(k[1:])], bad = decodeLease(v)
			return bad == nil
		})
	}
	if err == nil {
		err = bad
	}
	if err != nil {
		return s, err
	}
	v, ok, err := r.Get([]byte{famView})
	if err == nil && ok {
		err = s.decode(v)
	}
	return s, err
}

// errSame says that a change is none.
var errSame = errors.New("nothing to change")

// change changes what nodes know of each other, and takes over what it read. fn changes the
// snapshot and writes the same; it may run more than once. errSame of it ends the change
// without an error.
func (n *Node) change(ctx context.Context, fn func(w engine.Writer, s *snapshot) error) (s snapshot, err error) {
	err = n.eng.Update(ctx, Shard, func(w engine.Writer) (err error) {
		began := n.opt.Elapsed()
		if s, err = readAll(w); err != nil {
			return err
		}
		s.began = began
		if err := fn(w, &s); err != nil {
			return err
		}
		s.changes++
		return w.Put([]byte{famView}, s.encode())
	})
	if errors.Is(err, errSame) {
		err = nil
	}
	return s, err
}

func (s *snapshot) put(w engine.Writer, m member) error {
	s.members[m.name] = m
	return w.Put(nodeKey(m.name), m.encode())
}

func (s *snapshot) putLease(w engine.Writer, name string, l lease) error {
	s.leases[name] = l
	return w.Put(leaseKey(name), l.encode())
}

// read looks who is there.
func (n *Node) read(ctx context.Context) (s snapshot, err error) {
	err = n.eng.View(ctx, Shard, func(r engine.Reader) (err error) {
		began := n.opt.Elapsed()
		s, err = readAll(r)
		s.began = began
		return err
	})
	return s, err
}

// free makes a lease nobody's.
func (s *snapshot) free(w engine.Writer, name string) error {
	if strings.HasPrefix(name, lockName("")) { // nobody counts their terms
		delete(s.leases, name)
		return w.Delete(leaseKey(name))
	}
	return s.putLease(w, name, lease{term: s.leases[name].term})
}

// numbers are all that were ever given out, and 0: one whose node was forgotten is still the
// part of the queue that a process may write into that was frozen before, or replaced.
func numbers(members map[string]member, next uint64) []uint64 {
	set := map[uint64]bool{0: true}
	for n := range min(next, MaxNumber+1) {
		set[n] = true
	}
	for _, m := range members {
		set[m.number] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func nodeKey(name string) []byte  { return engine.KeyString(famNode, name) }
func leaseKey(name string) []byte { return engine.KeyString(famLease, name) }

func (n *Node) seconds() int64 { return n.opt.Now().Unix() }

// second is the time of day of a record.
func second(at int64) time.Time { return time.Unix(at, 0) }
