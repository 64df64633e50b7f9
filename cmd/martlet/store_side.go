package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/carry"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/node"
)

// side is a store as a copy has it: an engine, and nothing built on it.
type side struct {
	name   string // pebble or postgres
	where  string // for people; no password
	house  *house // whose engine it is, if it is postgres
	engine engine.Engine

	seen map[string]node.Member // when alone began to look
}

// openSide opens one of the two stores that a configuration knows. The engine that it names
// does not matter.
func openSide(ctx context.Context, cfg *conf.Config, name string, mayCreate bool, log *slog.Logger) (*side, error) {
	if name == "pebble" {
		return openFolderSide(cfg, mayCreate, log)
	}
	if cfg.Store.URL == "" {
		return nil, misused("the configuration names no database: set engine = \"postgres\" and url in [store], and [blobs] if large bodies are to go to an object store; then run the command again, before a server is started")
	}
	h := &house{cfg: cfg, log: log, run: rand.Text()}
	e, err := h.openShared(ctx)
	if err != nil {
		h.leave()
		return nil, err
	}
	h.engine = e
	return &side{name: name, where: conf.Discreet(cfg.Store.URL), house: h, engine: e}, nil
}

func openFolderSide(cfg *conf.Config, mayCreate bool, log *slog.Logger) (*side, error) {
	dir := engineDir(cfg)
	_, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !mayCreate:
		return nil, failed("there is no store in %s", dir)
	case errors.Is(err, fs.ErrNotExist):
		err = makeFolder(string(cfg.Data))
	}
	if err != nil {
		return nil, failed("cannot use the folder %s: %v", dir, err)
	}
	if owner := otherOwner(dir); owner != "" && owner != cfg.User {
		return nil, failed("the store in %s is that of user %s; run the command as this user: sudo -u '%s' martlet ...", dir, owner, owner)
	}
	holder := lockHolder(dir + "/LOCK") // afterwards it is ours
	e, err := pebble.Open(dir, pebble.Options{FS: vfs.Default, Now: time.Now, CacheBytes: cfg.Store.Memory("pebble"), OpenFiles: storeFiles(), Writer: "martlet " + thisBuild().Version, Log: log})
	if fault.Is(err, fault.Busy) {
		who := "another process"
		if holder > 0 {
			who = processName(holder)
		}
		return nil, failed("the store in %s is in use by %s; stop it first", dir, who)
	}
	if err != nil {
		return nil, err
	}
	return &side{name: "pebble", where: dir, engine: e}, nil
}

func (s *side) close() error {
	err := s.engine.Close()
	if s.house != nil {
		s.house.leave()
	}
	return err
}

// nodes are those that the store knows of, as of now.
func (s *side) nodes(ctx context.Context, cfg *conf.Config) (*node.Node, error) {
	return node.Open(ctx, s.engine, node.Options{
		Name: nodeName(cfg), Lease: time.Duration(cfg.Cluster.Lease), Version: thisBuild().Version, Format: storedFormat,
		Elapsed: elapsed(), Now: time.Now, Random: rand.Reader,
	})
}

// alone returns an error if a server runs on a store that several may have. Of nodes that
// have not said good-bye it looks for a lease whether they live.
func (s *side) alone(ctx context.Context, wait func(what string)) error {
	if s.house == nil {
		return nil // the lock says so
	}
	first, err := s.members(ctx)
	if s.seen = first; err != nil || len(first) == 0 {
		return err
	}
	lease := time.Duration(s.house.cfg.Cluster.Lease)
	for end := time.Now().Add(lease + lease/5); time.Now().Before(end); {
		for name := range first {
			wait(name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lease / 10):
		}
		if err := s.still(ctx); err != nil {
			return err
		}
	}
	return nil
}

// members are the nodes that have not said good-bye.
func (s *side) members(ctx context.Context) (map[string]node.Member, error) {
	n, err := s.nodes(ctx, s.house.cfg)
	if err != nil {
		return nil, err
	}
	list, err := n.List(ctx)
	all := map[string]node.Member{}
	for _, m := range list {
		if m.State != node.Stopped {
			all[m.Name] = m
		}
	}
	return all, err
}

// still returns an error if a node has shown itself since alone began to look.
func (s *side) still(ctx context.Context) error {
	if s.house == nil {
		return nil
	}
	now, err := s.members(ctx)
	for name, m := range now {
		if was, there := s.seen[name]; !there || !was.Last.Equal(m.Last) || !was.Started.Equal(m.Started) {
			return failed("the node %s runs on %s; stop all nodes first", name, s.where)
		}
	}
	return err
}

// shutter is an engine whose database can be kept from others.
type shutter interface {
	Shut(ctx context.Context, why string) error
	Reopen(ctx context.Context) error
}

// shut keeps others from a database that is to be read or filled as a whole, until reopen: a
// process that was asleep for longer than alone looks wakes to find its connections gone. say is
// told if the database cannot do that.
func (s *side) shut(ctx context.Context, why string, say func(string)) error {
	e, ok := s.engine.(shutter)
	if !ok {
		return nil
	}
	err := e.Shut(ctx, why)
	if fault.Is(err, fault.Unsupported) {
		say(fault.Say(err) + ": make sure that no process is asleep that worked on " + s.where)
		return nil
	}
	if fault.Is(err, fault.Busy) {
		return failed("%s", fault.Say(err))
	}
	return err
}

// reopen lets others in again. Marks go after it: whoever is cut short between the two leaves those.
func (s *side) reopen(ctx context.Context) error {
	if e, ok := s.engine.(shutter); ok {
		return e.Reopen(ctx)
	}
	return nil
}

// passing tells whether a shard holds only what processes that work on the store tell each other
// (docs/schema.md): it is of no use once they have ended, or to one that is alone, and not copied.
func passing(sh engine.Shard) bool {
	return sh == 9 || sh == doubt.Shard || sh >= 1<<17 && sh < 1<<17+64
}

// records tells whether anything was ever stored.
func (s *side) records(ctx context.Context) (bool, error) {
	shards, err := s.engine.Shards(ctx)
	for _, sh := range shards {
		if sh != node.Shard && sh != carry.Shard && !passing(sh) {
			return true, err
		}
	}
	return false, err
}
