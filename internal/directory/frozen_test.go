package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// optimist is a node whose engine commits like one that is shared: what an Update writes is
// kept only if the shard is as it was when the Update ran. Before each call and before each commit
// it may be frozen.
type optimist struct {
	*enginetest.Node
	versions map[engine.Shard]int // of all nodes
	points   int                  // at which it could have been frozen
	freeze   func(point int)
}

func (o *optimist) point() {
	if at := o.points; o.freeze != nil {
		o.points++
		o.freeze(at)
	}
}

func (o *optimist) View(ctx context.Context, shard engine.Shard, fn func(engine.Reader) error) error {
	o.point()
	return o.Node.View(ctx, shard, fn)
}

func (o *optimist) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	o.point()
	over := errors.New("not now")
	for {
		was := o.versions[shard]
		var all []func(engine.Writer) error
		err := o.Node.Update(ctx, shard, func(w engine.Writer) error {
			d := &draft{Writer: w}
			if err := fn(d); err != nil {
				return err
			}
			all = d.all
			return over
		})
		if !errors.Is(err, over) {
			return err
		}
		if len(all) == 0 {
			return nil
		}
		o.point()
		if o.versions[shard] != was {
			continue
		}
		o.versions[shard]++
		return o.Node.Update(ctx, shard, func(w engine.Writer) error {
			for _, do := range all {
				if err := do(w); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// draft remembers what is written. To delete what is not there is to write nothing.
type draft struct {
	engine.Writer
	all []func(engine.Writer) error
}

func (d *draft) Put(key, value []byte) error {
	k, v := slices.Clone(key), slices.Clone(value)
	d.all = append(d.all, func(w engine.Writer) error { return w.Put(k, v) })
	return d.Writer.Put(key, value)
}

func (d *draft) Delete(key []byte) error {
	if _, is, err := d.Get(key); err != nil || !is {
		return err
	}
	k := slices.Clone(key)
	d.all = append(d.all, func(w engine.Writer) error { return w.Delete(k) })
	return d.Writer.Delete(key)
}

func (d *draft) DeleteRange(from, to []byte) error {
	is := false
	err := d.Scan(from, to, false, func(_, _ []byte) bool { is = true; return false })
	if err != nil || !is {
		return err
	}
	from, to = slices.Clone(from), slices.Clone(to)
	d.all = append(d.all, func(w engine.Writer) error { return w.DeleteRange(from, to) })
	return d.Writer.DeleteRange(from, to)
}

// member is a node with a directory and a store.
type member struct {
	*Directory
	store *store.Store
	node  *optimist
}

// members returns two of them, with a domain.
func members(t *testing.T) (a, b *member) {
	versions := map[engine.Shard]int{}
	var both []*member
	for _, n := range enginetest.Nodes(newEngine(t), 2) {
		m := &member{node: &optimist{Node: n, versions: versions}}
		both = append(both, m)
		m.store, m.Directory = serving(t, m.node)
		t.Cleanup(func() {
			m.Close()
			m.store.Close()
			n.Close()
		})
	}
	a, b = both[0], both[1]
	if err := a.AddDomain(bg, "example.org"); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func serving(t *testing.T, eng engine.Engine) (*store.Store, *Directory) {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	st, err := store.Open(eng, store.Options{Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(bg, eng, st, Options{Rand: rand.Reader, Now: now, Argon: Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 2})
	if err != nil {
		t.Fatal(err)
	}
	return st, d
}

// saved is what a backup has of an account.
type saved struct {
	directory *Directory
	records   [][2][]byte
}

func (m *member) save(t *testing.T, id mail.AccountID) *saved {
	eng := newEngine(t)
	t.Cleanup(func() { eng.Close() })
	all := func(s engine.Shard) (list [][2][]byte) {
		err := m.node.View(bg, s, func(r engine.Reader) error {
			return r.Scan(nil, nil, false, func(k, v []byte) bool {
				list = append(list, [2][]byte{slices.Clone(k), slices.Clone(v)})
				return true
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	err := eng.Update(bg, shard, func(w engine.Writer) (err error) {
		for _, kv := range all(shard) {
			err = errors.Join(err, w.Put(kv[0], kv[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, d := serving(t, eng)
	return &saved{d, all(store.ShardOf(id))}
}

// restore brings the account back under its id.
func (m *member) restore(from *saved, addr mail.Address) error {
	_, err := m.Adopt(bg, from.directory, addr, func(ctx context.Context, _, id mail.AccountID, same bool) error {
		if !same {
			return errors.New("it comes back as another")
		}
		return m.store.Adopt(ctx, id, func(put func(key, value []byte) error) error {
			for _, kv := range from.records {
				if err := put(kv[0], kv[1]); err != nil {
					return err
				}
			}
			return nil
		}, func(store.Mended) {})
	})
	return err
}

const marked = 12345

// mark makes a change that shows that the account is the one that was made last.
func (m *member) mark(t *testing.T, id mail.AccountID) {
	t.Helper()
	if err := m.store.Account(id).Update(bg, func(tx *store.Tx) error {
		tx.SetQuota(store.Quota{Messages: marked})
		return tx.Subscribe("marked", true)
	}); err != nil {
		t.Fatal(err)
	}
}

// state tells what there is of an account.
func (m *member) state(t *testing.T, addr mail.Address, id mail.AccountID) (s struct{ known, data, listed, marked bool }) {
	t.Helper()
	_, err := m.Lookup(bg, addr)
	if s.known = err == nil; err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	if s.data, err = m.store.Holds(bg, id); err != nil {
		t.Fatal(err)
	}
	all, err := m.store.Accounts(bg)
	if err != nil {
		t.Fatal(err)
	}
	s.listed = slices.Contains(all, id)
	_ = m.store.Account(id).View(bg, func(v *store.Snapshot) error {
		subs, err := v.Subscriptions()
		s.marked = slices.Contains(subs, "marked")
		boxes, _ := v.Mailboxes()
		quota, _ := v.Quota()
		s.marked = s.marked && quota.Messages == marked && len(boxes) == len(store.DefaultMailboxes)
		return err
	})
	return s
}

// frozenAt runs work on the node, frozen once at each point in turn: others do what they do
// meanwhile. With locks the node has lost its own then.
func frozenAt(t *testing.T, locks bool, prepare func(t *testing.T, a, b *member) (work func() error, meanwhile func(t *testing.T), check func(t *testing.T, err error))) {
	over := false
	for point := 0; !over; point++ {
		t.Run(fmt.Sprintf("locks %v, point %d", locks, point), func(t *testing.T) {
			a, b := members(t)
			lost := false
			a.opt.Alone = func(context.Context, string) (func() bool, func(), error) {
				return func() bool { return !lost || !locks }, func() {}, nil
			}
			work, meanwhile, check := prepare(t, a, b)
			a.node.freeze = func(at int) {
				if at == point {
					a.node.freeze, lost = nil, true
					meanwhile(t)
				}
			}
			err := work()
			if over = !lost; !over {
				check(t, err)
			}
		})
		if point > 200 {
			t.Fatal("it has no end")
		}
	}
}

var alice = at("alice@example.org")

func addAlice(t *testing.T, m *member) mail.AccountID {
	t.Helper()
	made, err := m.AddAccount(bg, alice, "secret", store.Quota{})
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// A node is frozen at any point of a removal; another makes an end of it and brings the account
// back under its id; then the first goes on. Without locks, as commands work, what counts is on
// record: an account that is found under its address, once the other has brought it back, may be
// removed, but as a whole.
func TestRemovalThatCameTooLate(t *testing.T) {
	for _, locks := range []bool{true, false} {
		frozenAt(t, locks, func(t *testing.T, a, b *member) (func() error, func(*testing.T), func(*testing.T, error)) {
			id := addAlice(t, a)
			was := a.save(t, id)
			begun := false
			meanwhile := func(t *testing.T) {
				err := b.RemoveAccount(bg, alice)
				begun = fault.Is(err, fault.NotFound)
				if err = b.finishRemovals(bg); err == nil {
					err = b.restore(was, alice)
				}
				if err != nil {
					t.Fatal(err)
				}
				b.mark(t, id)
			}
			return func() error { return a.RemoveAccount(bg, alice) }, meanwhile, func(t *testing.T, err error) {
				s := b.state(t, alice, id)
				switch whole := s.known && s.data && s.listed && s.marked; {
				case (locks || begun) && !whole:
					t.Errorf("of the account that was brought back there is %+v: %v", s, err)
				case !whole && (s.known || s.data || s.listed):
					t.Errorf("it is there in part, %+v: %v", s, err)
				}
			}
		})
	}
}

// A node is frozen at any point of making an account, which another removes meanwhile.
func TestMakingOfWhatWasRemoved(t *testing.T) {
	frozenAt(t, true, func(t *testing.T, a, b *member) (func() error, func(*testing.T), func(*testing.T, error)) {
		const id = 1
		meanwhile := func(t *testing.T) {
			if err := b.RemoveAccount(bg, alice); err != nil && !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
		}
		return func() error { return addAliceTo(a) }, meanwhile, func(t *testing.T, err error) {
			if s := b.state(t, alice, id); err == nil || s.known || s.data || s.listed {
				t.Errorf("of an account that was removed there is %+v: %v", s, err)
			}
		}
	})
}

func addAliceTo(m *member) error {
	_, err := m.AddAccount(bg, alice, "secret", store.Quota{})
	return err
}

// A node is frozen at any point of bringing an account back, or of making what was to be brought
// back; another brings it back meanwhile.
func TestReturnThatCameTooLate(t *testing.T) {
	for _, locks := range []bool{true, false} {
		for _, work := range []func(a *member, was *saved) error{
			func(a *member, was *saved) error { return a.restore(was, alice) },
			func(a *member, was *saved) error {
				if _, err := a.reserveOld(bg, alice, 1); err != nil {
					return err
				}
				return addAliceTo(a)
			},
		} {
			for _, removes := range []bool{true, false} {
				frozenAt(t, locks, func(t *testing.T, a, b *member) (func() error, func(*testing.T), func(*testing.T, error)) {
					id := addAlice(t, a)
					was := a.save(t, id)
					if err := a.RemoveAccount(bg, alice); err != nil {
						t.Fatal(err)
					}
					meanwhile := func(t *testing.T) {
						if removes {
							if err := b.RemoveAccount(bg, alice); err != nil && !fault.Is(err, fault.NotFound) {
								t.Fatal(err)
							}
						}
						if err := b.restore(was, alice); err != nil && !fault.Is(err, fault.Exists) {
							t.Fatal(err)
						}
						b.mark(t, id)
					}
					return func() error { return work(a, was) }, meanwhile, func(t *testing.T, err error) {
						if s := b.state(t, alice, id); !s.known || !s.data || !s.listed || !s.marked {
							t.Errorf("of the account that another has brought back there is %+v: %v", s, err)
						}
					}
				})
			}
		}
	}
}
