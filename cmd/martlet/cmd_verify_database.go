package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// repairDatabase brings the records of a shared store into accord. Its files are the database's,
// which checks and mends them with programs of its own, and from its standbys and backups; so
// that is to be done before.
func repairDatabase(cmd *cobra.Command, cfg *conf.Config, plan bool, give map[mail.AccountID]mail.Address) error {
	if err := giveUpRoot(cfg); err != nil {
		return err
	}
	ctx := cmd.Context()
	s, err := openSide(ctx, cfg, "postgres", false, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	r := newRepairer(cmd, cfg, plan, give)
	if plan {
		return r.tell(repairLine{Event: "done", What: "the store's files are the database's: pg_amcheck looks at them, a standby or a backup of the database mends them; without --plan the records would be brought into accord"})
	}
	if err := s.alone(ctx, saysOnce(cmd.ErrOrStderr())); err != nil {
		return err
	}
	return r.database(s)
}

// database mends the records of a side on which no node runs, in the form that those are in that
// may come.
func (r *repairer) database(s *side) error {
	n, err := s.nodes(r.ctx, r.cfg)
	if err != nil {
		return err
	}
	m, err := readMarks(r.ctx, s.engine)
	if err == nil && !m.mending {
		err = mayServe(r.ctx, s.engine, "postgres") // of a part of a copy nothing is to be mended
	}
	if err != nil {
		return err
	}
	if err := n.Settle(r.ctx); err != nil {
		return err
	}
	if err := setMark(r.ctx, s.engine, mendingKey, underWay()); err != nil {
		return err
	}
	if err := s.shut(r.ctx, mendingCloses(s.name), func(what string) { fmt.Fprintln(r.errOut, what) }); err != nil {
		return err
	}
	done, err := r.begin()
	if err != nil {
		return err
	}
	defer r.report.Close()
	st, err := store.Open(s.engine, store.Options{Now: time.Now, Rand: rand.Reader, Format: n.Format})
	if err != nil {
		return err
	}
	err = r.allRecords(s.engine, st)
	st.Close()
	if err != nil {
		return errors.Join(err, r.ctx.Err())
	}
	return r.end(done, func() error {
		ctx := context.WithoutCancel(r.ctx)
		if err := s.reopen(ctx); err != nil {
			return err
		}
		return setMark(ctx, s.engine, mendingKey, nil)
	})
}
