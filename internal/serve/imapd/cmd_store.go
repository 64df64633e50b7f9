package imapd

import (
	"context"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

var storeOps = [...]store.FlagOp{
	imap.ReplaceFlags: store.ReplaceFlags, imap.AddFlags: store.AddFlags, imap.RemoveFlags: store.RemoveFlags,
}

// store is STORE and UID STORE (RFC 9051, 6.4.6; RFC 7162, 3.1.3). The FETCH lines
// that answer it are not written here: the sync after every command tells all
// sessions alike, this one too.
func (s *session) store(cmd *command, args imap.Store) (reply, error) {
	switch args.Item {
	case imap.StoreLabels:
		return s.storeLabels(cmd, args)
	case imap.StoreNotes:
		return s.storeNotes(cmd, args)
	}
	uids, missing, err := s.resolve(args.Set, cmd.uid)
	if err != nil {
		return reply{}, err
	}
	uids = s.limit(cmd, uids)
	change := store.FlagChange{Op: storeOps[args.Op], Flags: args.Flags.System, Keywords: args.Flags.Keywords}
	if args.Conditional {
		s.enableCondstore()
		since := mail.ModSeq(args.Unchanged)
		change.UnchangedSince = &since
	}
	var result store.FlagResult
	err = s.await(s.view.pic, uids, func(ctx context.Context) (err error) {
		result, err = s.view.acct.SetFlags(ctx, s.view.box, uids, change)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	cmd.own = &ownChange{set: uids, change: change, silent: args.Silent && s.mayAll(&change)}
	if args.Conditional {
		cmd.own.set, cmd.own.modseqs = without(uids, result.Failed), true
	}
	return s.stored(cmd, missing, s.view.pic.Existing(result.Failed)), nil
}

// stored is the answer to a STORE. missing says that messages it named were gone already;
// failed are those that had changed meanwhile.
func (s *session) stored(cmd *command, missing bool, failed mail.UIDSet) reply {
	rep := ok(cmd.row.name + " done")
	if missing {
		// The rest was changed. RFC 2180, 4.2 would have NO in some of these cases, and
		// clients take that for a failure of the whole.
		rep = okCode("EXPUNGEISSUED", "some of the messages no longer exist")
	}
	if !failed.IsEmpty() {
		if !cmd.uid {
			failed = s.view.seqSet(failed)
		}
		rep.code = "MODIFIED " + failed.String()
		if !missing {
			rep.text = "some of the messages were changed meanwhile"
		}
	}
	return rep
}

// mayAll tells whether the user may change all flags of a change: else the client does
// not know what comes of it, however silent it wants it.
func (s *session) mayAll(c *store.FlagChange) bool {
	flags, keywords := s.view.rights.FlagRights()
	if c.Op == store.ReplaceFlags {
		return keywords && flags.Has(mail.Seen|mail.Deleted)
	}
	return flags.Has(c.Flags) && (keywords || len(c.Keywords) == 0)
}
