package imapd

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// copyCommand is COPY and UID COPY (RFC 9051, 6.4.7).
func (s *session) copyCommand(cmd *command, args imap.Copy) (reply, error) {
	uids, to, missing, err := s.transfer(cmd, args)
	if err != nil {
		return reply{}, noTarget(err)
	}
	if missing {
		return no("EXPUNGEISSUED", "some of the messages no longer exist, nothing was copied"), nil
	}
	if limit := s.srv.opt.saveLimit(); limit > 0 {
		if _, lowest := withinLimit(s.view.pic, uids, limit); lowest > 0 {
			return reply{}, tooManyFrom(limit, lowest)
		}
	}
	var moved []store.Moved
	err = s.await(s.view.pic, uids, func(ctx context.Context) (err error) {
		moved, err = s.view.acct.CopyTo(ctx, s.view.box, uids, to.acct, to.box.ID)
		return err
	})
	if err != nil {
		return reply{}, noTarget(err)
	}
	rep := ok(cmd.row.name + " done")
	if len(moved) > 0 {
		rep.code = copyUID(to.box.UIDValidity, moved)
	}
	return rep, nil
}

// move is MOVE and UID MOVE (RFC 9051, 6.4.8; RFC 6851). Where the messages went is
// told first; the sync after it tells that they are gone from here.
func (s *session) move(cmd *command, args imap.Copy) (reply, error) {
	uids, to, _, err := s.transfer(cmd, args)
	if err != nil {
		return reply{}, noTarget(err)
	}
	uids = s.limit(cmd, uids)
	var moved []store.Moved
	err = s.await(s.view.pic, uids, func(ctx context.Context) (err error) {
		moved, err = s.view.acct.MoveTo(ctx, s.view.box, uids, to.acct, to.box.ID)
		return err
	})
	if len(moved) > 0 { // of a very large set a part may have moved before a failure
		s.note("OK", copyUID(to.box.UIDValidity, moved), "moved")
	}
	if err != nil {
		return reply{}, noTarget(err)
	}
	return ok(cmd.row.name + " done"), nil
}

// transfer finds out what to copy or move and where to.
func (s *session) transfer(cmd *command, args imap.Copy) (uids mail.UIDSet, to *target, missing bool, err error) {
	if uids, missing, err = s.resolve(args.Set, cmd.uid); err != nil {
		return nil, nil, false, err
	}
	to, err = s.target(args.Mailbox)
	return uids, to, missing, err
}

// noTarget is the error for a target that is not there: the client may make it and
// try again (RFC 9051, 7.1 "TRYCREATE").
func noTarget(err error) error {
	if fault.Is(err, fault.NotFound) {
		return coded("TRYCREATE", err)
	}
	return err
}
