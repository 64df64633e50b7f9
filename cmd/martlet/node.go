package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/node"
	"github.com/martlet-mail/martlet/internal/queue"
)

// This process as one of several that share a store.

// storedFormat is the newest form of stored records that this program writes. It is raised with
// each form that earlier versions cannot read; who writes such a form asks node.Format first,
// which is less while a node of an earlier version lives. 2: the owner of a part of the queue is
// named, and each change of a mailbox has a stamp.
const storedFormat = 2

// runFile keeps what names the last run of this machine's server: who has the lock of the data
// folder knows that it has ended.
func (h *house) runFile() string { return filepath.Join(string(h.cfg.Data), "node.run") }

// join makes the process a node: a server one of the nodes, a command one that only looks.
func (h *house) join(ctx context.Context) (err error) {
	o := node.Options{
		Name: nodeName(h.cfg), Lease: time.Duration(h.cfg.Cluster.Lease), Version: thisBuild().Version, Format: storedFormat,
		Elapsed: elapsed(), Now: time.Now, Random: rand.Reader, Log: h.log,
	}
	for _, l := range h.cfg.Listen {
		o.Addresses = append(o.Addresses, fmt.Sprintf("%s %s", l.Protocol, l.Address))
	}
	server := h.serving && shared(h.cfg)
	if server {
		if o.Dead, err = lastRun(h.runFile(), bootID()); err != nil {
			return fault.Wrap(fault.Unavailable, "the data folder cannot be read", err)
		}
	}
	if h.node, err = node.Open(ctx, h.engine, o); err != nil {
		return err
	}
	if !server {
		return h.node.Settle(ctx)
	}
	if err := h.node.Join(ctx); err != nil {
		return err
	}
	if err := writeRun(h.runFile(), bootID(), h.node.Identity()); err != nil {
		h.log.Warn("the next start may have to wait for a lease", "err", err)
	}
	return nil
}

// queueParts are what the queue is to know of the nodes; nil: nobody else has a part of it.
func (h *house) queueParts() func(context.Context) ([]uint64, error) {
	if !h.node.Shared() && len(h.node.KnownNumbers()) == 1 {
		return nil
	}
	return h.node.Numbers
}

// keepQueue works this node's part of the queue, and those of nodes that are silent or gone.
func (h *house) keepQueue(ctx context.Context) error {
	if h.queueParts() == nil {
		h.queue.Run(ctx)
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	worked := map[uint64]bool{}
	for {
		looked := h.node.Looked()
		for _, n := range h.node.KnownNumbers() {
			if !worked[n] {
				worked[n] = true
				wg.Go(func() { h.workPart(ctx, n) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-looked:
		}
	}
}

func (h *house) workPart(ctx context.Context, part uint64) {
	lease := node.Lease{Name: fmt.Sprint("queue/", part), Homed: true, Home: part}
	for ctx.Err() == nil { // nobody else begins it again in this process
		h.node.While(ctx, lease, func(c context.Context, t *node.Tenure) {
			h.queue.Work(c, ctx, part, queue.Tenure(t))
			<-c.Done()
		})
	}
}

// solely makes a part of the server one that only one node has at a time.
func (h *house) solely(lease string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		h.node.While(ctx, node.Lease{Name: lease}, func(c context.Context, _ *node.Tenure) {
			if failed := run(c); failed != nil && c.Err() == nil {
				err = failed
			}
		})
		return err
	}
}
