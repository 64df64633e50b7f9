package node

import (
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// MaxFile is the most that a file holds, in bytes.
const MaxFile = 64 << 10

// Files are small files that all nodes share, by name: parts with slashes between them, at
// most 500 bytes. All methods may be called from many goroutines, of many nodes.
type Files struct{ n *Node }

// File is what is known of one.
type File struct {
	Name     string
	Size     int64
	Modified time.Time // by the clock of whoever wrote it
}

// Files returns the files.
func (n *Node) Files() *Files { return &Files{n} }

func fileKey(name string) ([]byte, error) {
	if name == "" || len(name) > 500 {
		return nil, fault.Newf(fault.Invalid, "%q cannot be the name of a file", name)
	}
	return engine.KeyString(famFile, name), nil
}

func encodeFile(modified int64, data []byte) []byte {
	var e record.Enc
	e.I(modified)
	e.Bytes(data)
	return record.Seal(version, e)
}

func decodeFile(b []byte) (modified int64, data []byte, err error) {
	d, err := open(b)
	if err != nil {
		return 0, nil, err
	}
	modified, data = d.I(), d.Bytes()
	return modified, data, d.End("file")
}

// Read returns a file. Faults: NotFound, Corrupt, those of the engine.
func (f *Files) Read(ctx context.Context, name string) (data []byte, about File, err error) {
	key, err := fileKey(name)
	if err != nil {
		return nil, about, err
	}
	err = f.n.eng.View(ctx, Shard, func(r engine.Reader) error {
		v, ok, err := r.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fault.Newf(fault.NotFound, "there is no file %q", name)
		}
		at, b, err := decodeFile(v)
		data = append([]byte(nil), b...)
		about = File{name, int64(len(b)), second(at)}
		return err
	})
	return data, about, err
}

// Write makes a file, or replaces it as a whole. Faults: Invalid (the name), TooLarge, those
// of the engine.
func (f *Files) Write(ctx context.Context, name string, data []byte) error {
	key, err := fileKey(name)
	if err != nil {
		return err
	}
	if len(data) > MaxFile {
		return fault.Newf(fault.TooLarge, "the file %q has more than %d bytes", name, MaxFile)
	}
	v := encodeFile(f.n.seconds(), data)
	return f.n.eng.Update(ctx, Shard, func(w engine.Writer) error { return w.Put(key, v) })
}

// Make makes a file unless it is there, and returns what is in it then: of several nodes that
// make one at a time all get the same. Faults: as of Write and Read.
func (f *Files) Make(ctx context.Context, name string, data []byte) (is []byte, err error) {
	key, err := fileKey(name)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fault.Newf(fault.TooLarge, "the file %q has more than %d bytes", name, MaxFile)
	}
	v := encodeFile(f.n.seconds(), data)
	err = f.n.eng.Update(ctx, Shard, func(w engine.Writer) error {
		old, ok, err := w.Get(key)
		if err != nil {
			return err
		}
		if ok {
			var b []byte
			_, b, err = decodeFile(old)
			is = append([]byte(nil), b...)
			return err
		}
		is = data
		return w.Put(key, v)
	})
	return is, err
}

// Remove removes a file and all whose names have it as a folder; it is no fault if there is
// none.
func (f *Files) Remove(ctx context.Context, name string) error {
	key, err := fileKey(name)
	if err != nil {
		return err
	}
	folder := append(append([]byte(nil), key...), '/')
	return f.n.eng.Update(ctx, Shard, func(w engine.Writer) error {
		if err := w.Delete(key); err != nil {
			return err
		}
		return w.DeleteRange(folder, engine.After(folder))
	})
}

// List returns the files whose names have a folder, in order; of "" all.
func (f *Files) List(ctx context.Context, folder string) (list []File, err error) {
	prefix := engine.KeyString(famFile, "")
	if folder = strings.Trim(folder, "/"); folder != "" {
		prefix = engine.KeyString(famFile, folder+"/")
	}
	err = f.n.eng.View(ctx, Shard, func(r engine.Reader) error {
		list = nil
		var bad error
		err := r.Scan(prefix, engine.After(prefix), false, func(k, v []byte) bool {
			at, b, err := decodeFile(v)
			if err != nil {
				bad = err
				return false
			}
			list = append(list, File{string(k[1:]), int64(len(b)), second(at)})
			return true
		})
		if err == nil {
			err = bad
		}
		return err
	})
	return list, err
}

// lock is a lock of this node: only one of its goroutines has it, and it the lease.
type lock struct {
	turn chan struct{} // holds one thing: the right to have it
	uses int           // who has it or waits for it
	has  *Tenure
}

func lockName(name string) string { return "lock/" + name }

// Lock waits for a lock that no other goroutine of any node has until it is unlocked. A node
// that falls silent loses its locks after a lease. Faults: Unsupported (the node has not
// joined), the end of ctx.
func (f *Files) Lock(ctx context.Context, name string) error {
	n := f.n
	n.mu.Lock()
	if n.shared && !n.joined {
		n.mu.Unlock()
		return fault.New(fault.Unsupported, "a process that is not one of the nodes has no locks")
	}
	l := n.locks[name]
	if l == nil {
		l = &lock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		n.locks[name] = l
	}
	l.uses++
	n.using[lockName(name)]++
	n.mu.Unlock()
	select {
	case <-ctx.Done():
		n.done(name, l)
		return ctx.Err()
	case <-l.turn:
	}
	if !n.shared {
		return nil
	}
	t := n.await(ctx, Lease{Name: lockName(name), drains: true})
	if t == nil {
		l.turn <- struct{}{}
		n.done(name, l)
		return ctx.Err()
	}
	n.mu.Lock()
	l.has = t
	n.mu.Unlock()
	return nil
}

// Unlock ends a lock that this node has. Faults: Invalid (it has none of that name).
func (f *Files) Unlock(ctx context.Context, name string) error {
	n := f.n
	n.mu.Lock()
	l := n.locks[name]
	if l == nil {
		n.mu.Unlock()
		return fault.Newf(fault.Invalid, "%q is not locked here", name)
	}
	t := l.has
	l.has = nil
	n.mu.Unlock()
	if t != nil {
		n.release(ctx, t)
	}
	l.turn <- struct{}{}
	n.done(name, l)
	return nil
}

// Holds tells whether this node has a lock and something may still be begun under it: no other
// node can have it for a third of a lease. Whoever may have been frozen since Lock asks before
// he changes what the lock keeps others from. It costs nothing.
func (f *Files) Holds(name string) bool {
	n := f.n
	if !n.shared {
		return true
	}
	n.mu.Lock()
	l := n.locks[name]
	var t *Tenure
	if l != nil {
		t = l.has
	}
	n.mu.Unlock()
	return t != nil && t.Begin()
}

// done notes that one less uses a lock.
func (n *Node) done(name string, l *lock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.using[lockName(name)]--; n.using[lockName(name)] == 0 {
		delete(n.using, lockName(name))
	}
	if l.uses--; l.uses == 0 {
		delete(n.locks, name)
	}
}
