package receive

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// loser is an engine of several nodes that loses outcomes of deliveries: those of accounts, and of
// the queue.
type loser struct {
	*enginetest.Node
	loses, carried atomic.Bool
}

func (l *loser) Update(ctx context.Context, shard engine.Shard, fn func(engine.Writer) error) error {
	_, queued := queue.PartOf(shard)
	if !l.loses.Load() || shard < 1<<32 && !queued {
		return l.Node.Update(ctx, shard, fn)
	}
	if l.carried.Load() {
		if err := l.Node.Update(ctx, shard, fn); err != nil {
			return err
		}
	}
	return fault.New(fault.Unknown, "nobody knows")
}

// member is one node.
type member struct {
	*world
	doubts *doubt.List
	queue  *queue.Queue
	lose   func(carried bool) // the outcome of the next delivery
	find   func()             // ends that
}

// newMember is a node on its handle of an engine. The first makes accounts.
func newMember(t *testing.T, eng engine.Engine, number uint64) *member {
	t.Helper()
	st, err := store.Open(eng, store.Options{Now: time.Now})
	w := &world{t: t, store: st, accounts: map[string]directory.Account{}}
	w.must(err)
	w.dir, err = directory.Open(t.Context(), eng, st, directory.Options{
		Now: time.Now, Rand: rand.Reader, Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096,
	})
	w.must(err)
	t.Cleanup(w.dir.Close)
	if number == 0 {
		w.must(w.dir.AddDomain(t.Context(), "here.test"))
	}
	for _, name := range []string{"alice", "bob"} {
		if number == 0 {
			_, err = w.dir.AddAccount(t.Context(), addr(name+"@here.test"), "", store.Quota{})
			w.must(err)
		}
		w.accounts[name], err = w.dir.Lookup(t.Context(), addr(name+"@here.test"))
		w.must(err)
	}
	if number == 0 {
		w.must(w.dir.AddAlias(t.Context(), addr("both@here.test"), addr("alice@here.test"), addr("carol@far.test")))
	}
	m := &member{world: w, doubts: doubt.New(doubt.Options{Engine: eng, Now: time.Now})}
	m.queue = queue.New(eng, st, queue.Options{
		Hostname: "mx.here.test", Now: time.Now, Rand: func() float64 { return 0 }, Random: rand.Reader,
		Part: number, Parts: func(context.Context) ([]uint64, error) { return []uint64{0, 1}, nil },
	})
	w.Receiver = New(Options{Now: time.Now, Store: st, Directory: w.dir, Queue: m.queue, Part: number, Doubts: m.doubts})
	return m
}

// sameMail is two nodes, and a client who sends one message again and again, to whichever.
type sameMail struct {
	t     *testing.T
	nodes [2]*member
	env   mail.Envelope
	tries int

	alice, far int // copies of another message
}

// onNodes returns two nodes on one engine in memory.
func onNodes(t *testing.T, to ...string) *sameMail {
	t.Helper()
	base, err := pebble.Open("data", pebble.Options{Now: time.Now, FS: vfs.NewMem(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := &sameMail{t: t}
	for i, node := range enginetest.Nodes(base, 2) {
		t.Cleanup(func() { node.Close() })
		eng := &loser{Node: node}
		m := newMember(t, eng, uint64(i))
		m.lose = func(carried bool) { eng.carried.Store(carried); eng.loses.Store(true) }
		m.find = func() { eng.loses.Store(false) }
		s.nodes[i] = m
	}
	return s.to(to...)
}

// onDatabase returns two nodes on PostgreSQL, each with a line of its own to it.
func onDatabase(t *testing.T, server *pgtest.Server, name string, to ...string) *sameMail {
	t.Helper()
	server.Database(t, name)
	s := &sameMail{t: t}
	for i := range s.nodes {
		proxy := pgtest.NewProxy(t, server.Address())
		eng, err := postgres.Open(t.Context(), postgres.Options{
			URL: server.DatabaseTCP(name, proxy.Address()), Now: time.Now, Rand: rand.Reader, Connections: 4, Patience: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { eng.Close() })
		m := newMember(t, eng, uint64(i))
		m.lose = func(carried bool) { proxy.Refuse(true); proxy.CutAt("m_guarded", carried, 1) }
		m.find = func() { proxy.Refuse(false) }
		s.nodes[i] = m
	}
	s.to(to...).served(0) // what a node is the first to write goes another way
	s.env.Sent = [32]byte{8}
	s.alice, s.far = s.copies()
	return s
}

func (s *sameMail) to(to ...string) *sameMail {
	s.env = envelope("ESMTP", to...)
	s.env.Sent = [32]byte{7}
	return s
}

func (s *sameMail) send(n int) error {
	s.tries++
	m := s.nodes[n]
	return m.Deliver(s.t.Context(), s.env, m.parcel(fmt.Sprintf("Received: %d\r\nSubject: x\r\n\r\nx\r\n", s.tries)))[0].Err
}

// doubted sends to a node that does not find out what becomes of it.
func (s *sameMail) doubted(n int, carried bool) {
	s.t.Helper()
	s.nodes[n].lose(carried)
	if err := s.send(n); !fault.Is(err, fault.Unknown) {
		s.t.Fatalf("nothing is in doubt: %v", err)
	}
	s.nodes[n].find()
}

func (s *sameMail) served(n int) {
	s.t.Helper()
	if err := s.send(n); err != nil {
		s.t.Fatalf("try %d, at node %d: %v", s.tries, n, err)
	}
}

// told has a node tell what it has to, and the others hear it.
func (s *sameMail) told(n int) {
	s.t.Helper()
	s.nodes[n].must(s.nodes[n].doubts.Tell(s.t.Context()))
	for _, m := range s.nodes {
		m.must(m.doubts.Hear(s.t.Context()))
	}
}

// has wants so many copies, here and for other hosts.
func (s *sameMail) has(alice, far int) {
	s.t.Helper()
	a, f := s.copies()
	if a, f = a-s.alice, f-s.far; a != alice || f != far {
		s.t.Errorf("after try %d: %d and %d copies, not %d and %d", s.tries, a, f, alice, far)
	}
}

func (s *sameMail) copies() (alice, far int) {
	s.t.Helper()
	n, err := s.nodes[1].queue.Count(s.t.Context())
	s.nodes[1].must(err)
	return len(s.nodes[1].inbox("alice")), n.Messages
}

// records returns how many doubts are on record.
func (s *sameMail) records() (n int) {
	s.t.Helper()
	m := s.nodes[1]
	m.must(m.doubts.Hear(s.t.Context()))
	for _, to := range []string{fmt.Sprint(uint64(m.accounts["alice"].ID)), "carol@far.test\n"} {
		n += len(m.doubts.Earlier(doubt.What{Sent: s.env.Sent, From: s.env.From, To: to}))
	}
	return n
}

// over is the whole of it: what is in doubt at one node is known at the other, is delivered once,
// and what is sent once more after that is another message, wherever it comes, also to a node that has
// not heard that the doubt is over.
func (s *sameMail) over(carried bool, alice, far int) {
	s.t.Helper()
	s.doubted(0, carried)
	s.told(0)
	s.served(1)
	s.has(alice, far)
	s.served(0)
	s.has(2*alice, 2*far)
	s.served(1)
	s.has(3*alice, 3*far)
	s.told(0)
	s.told(1)
	if n := s.records(); n != 0 {
		s.t.Errorf("%d are still in doubt", n)
	}
	s.served(0)
	s.has(4*alice, 4*far)
}

var places = []struct {
	to         string
	alice, far int
}{{"alice@here.test", 1, 0}, {"carol@far.test", 0, 1}, {"both@here.test", 1, 1}}

// A delivery in doubt that is sent again to another node is there once.
func TestDoubtOfAnotherNode(t *testing.T) {
	for _, p := range places {
		for _, carried := range []bool{true, false} {
			t.Run(fmt.Sprint(p.to, carried), func(t *testing.T) { onNodes(t, p.to).over(carried, p.alice, p.far) })
		}
	}
}

// The control: what is not told is there twice if the first came to be.
func TestDoubtThatIsNotTold(t *testing.T) {
	for _, p := range places {
		s := onNodes(t, p.to)
		s.doubted(0, true)
		s.served(1)
		s.has(2*p.alice, 2*p.far)
	}
}

// The same on a database: its connections break in the middle of the commit, and no other is had.
func TestDoubtOfAnotherNodeOnDatabase(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	server := pgtest.Start(t, pgtest.Options{})
	for i, p := range places[:2] {
		for _, carried := range []bool{true, false} {
			name := fmt.Sprintf("doubts_%d_%t", i, carried)
			t.Run(name, func(t *testing.T) { onDatabase(t, server, name, p.to).over(carried, p.alice, p.far) })
		}
	}
}

// A client that goes from node to node, none of which finds out what becomes of its message, has it
// there once when one does, whichever of the tries came to be; and no later one is taken for it.
func TestDoubtAtEachNode(t *testing.T) {
	for _, p := range places {
		for come := range 4 {
			s := onNodes(t, p.to)
			for try := range 4 {
				s.doubted(try%2, try == come)
				s.told(try % 2)
			}
			s.served(1)
			s.has(p.alice, p.far)
			s.served(0)
			s.has(2*p.alice, 2*p.far)
		}
	}
}

// Who is told to come again for another's sake comes to another node: nobody has it twice.
func TestServedOnceOverNodes(t *testing.T) {
	s := onNodes(t, "alice@here.test", "bob@here.test")
	a, b := s.nodes[0], s.nodes[1]
	real := a.opt.Queue
	a.opt.Queue = &fakeQueue{err: errAway}
	bob := a.accounts["bob"]
	full := store.Quota{Messages: 1}
	must := a.must
	must(a.store.Account(bob.ID).Update(t.Context(), func(tx *store.Tx) error { tx.SetQuota(full); return nil }))
	s.env.To = s.env.To[1:]
	s.served(0) // now he is full
	s.env.To = envelope("", "alice@here.test", "bob@here.test").To
	for range 2 {
		s.tries++
		if r := a.Deliver(t.Context(), s.env, a.parcel(fmt.Sprintf("Received: %d\r\n\r\nx\r\n", s.tries))); r[1].Err == nil {
			t.Fatal("bob has room")
		}
	}
	a.opt.Queue = real
	s.told(0)
	must(a.store.Account(bob.ID).Update(t.Context(), func(tx *store.Tx) error { tx.SetQuota(store.Quota{}); return nil }))
	s.served(1)
	s.has(1, 0)
	if n := len(b.inbox("bob")); n != 2 {
		t.Errorf("bob has %d", n)
	}
	s.served(0)
	s.has(2, 0)
}
