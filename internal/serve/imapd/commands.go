package imapd

import (
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// stateSet is a set of the states a connection may be in (RFC 9051, 3).
type stateSet uint8

const (
	fresh    stateSet = 1 << iota // not authenticated
	signedIn                      // authenticated, no mailbox selected
	selected
	anyState = fresh | signedIn | selected
)

// untagged says what a command lets the server tell of the selected mailbox before
// its tagged answer (RFC 9051, 7.5.1).
type untagged uint8

const (
	tellNone untagged = iota // nothing: the command changes or leaves the view itself
	keepSeqs                 // arrivals and flags; expunges wait, for numbers are in use
	tellAll
)

// row is one command.
type row struct {
	name   string
	in     stateSet
	writes bool // needs a mailbox that was not opened for reading only
	after  untagged
	caps   string // capabilities that it brings to a client that has signed in
	run    handler
}

// handler reads the arguments of a command, up to and with its line end, and carries
// it out.
type handler func(s *session, cmd *command) (reply, error)

// handle makes a handler of a parser and the deed. If the parser fails, the loop
// answers BAD with what the decoder found wrong.
func handle[T any](parse func(*imap.Decoder, *T) bool, run func(*session, *command, T) (reply, error)) handler {
	return func(s *session, cmd *command) (reply, error) {
		var args T
		if !s.dec.ExpectSP() || !parse(s.dec, &args) || !s.dec.ExpectCRLF() {
			return reply{}, s.dec.Err()
		}
		return run(s, cmd, args)
	}
}

// bare makes a handler of a deed that takes no arguments.
func bare(run func(*session, *command) (reply, error)) handler {
	return func(s *session, cmd *command) (reply, error) {
		if !s.dec.ExpectCRLF() {
			return reply{}, s.dec.Err()
		}
		return run(s, cmd)
	}
}

// commands is every command there is. Capabilities are announced in this order.
func commands() []row {
	const in = signedIn | selected
	return []row{
		{name: "CAPABILITY", in: anyState, after: tellAll, run: bare((*session).capability)},
		{name: "NOOP", in: anyState, after: tellAll, caps: "INPROGRESS", run: bare((*session).noop)},
		{name: "LOGOUT", in: anyState, run: bare((*session).logout)},
		{name: "STARTTLS", in: fresh, run: bare((*session).startTLS)},
		{name: "AUTHENTICATE", in: fresh, caps: "SASL-IR", run: (*session).authenticate},
		{name: "LOGIN", in: fresh, run: (*session).loginCommand},
		{name: "UNAUTHENTICATE", in: in, caps: "UNAUTHENTICATE", run: bare((*session).unauthenticate)},
		{name: "COMPRESS", in: in, caps: "COMPRESS=DEFLATE", run: handle((*imap.Decoder).ExpectAtom, (*session).compress)},
		{name: "ENABLE", in: in, after: tellAll, caps: "ENABLE UIDONLY UTF8=ACCEPT", run: handle((*imap.Decoder).ExpectEnable, (*session).enable)},
		{name: "ID", in: anyState, after: tellAll, caps: "ID", run: handle((*imap.Decoder).ExpectID, (*session).id)},
		{name: "LANGUAGE", in: anyState, after: tellAll, caps: "LANGUAGE", run: (*session).languageCommand},
		{name: "NAMESPACE", in: in, after: tellAll, caps: "NAMESPACE", run: bare((*session).namespace)},
		{name: "IDLE", in: in, after: tellAll, caps: "IDLE", run: bare((*session).beginIdle)},

		{name: "CREATE", in: in, after: tellAll, caps: "CREATE-SPECIAL-USE", run: handle((*imap.Decoder).ExpectCreate, (*session).create)},
		{name: "DELETE", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).remove)},
		{name: "RENAME", in: in, after: tellAll, run: handle(expectRename, (*session).rename)},
		{name: "SUBSCRIBE", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).subscribe)},
		{name: "UNSUBSCRIBE", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).unsubscribe)},
		{name: "LIST", in: in, after: tellAll, caps: "CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE", run: handle((*imap.Decoder).ExpectListCommand, (*session).list)},
		{name: "LSUB", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectLSub, (*session).lsub)},
		{name: "XLIST", in: in, after: tellAll, caps: "XLIST", run: handle((*imap.Decoder).ExpectLSub, (*session).xlist)},
		{name: "RLIST", in: in, after: tellAll, caps: "MAILBOX-REFERRALS", run: remote((*session).list)},
		{name: "RLSUB", in: in, after: tellAll, run: remote((*session).lsub)},
		{name: "STATUS", in: in, after: tellAll, caps: "STATUS=SIZE", run: handle((*imap.Decoder).ExpectStatus, (*session).status)},
		{name: "APPEND", in: in, after: tellAll, caps: "MULTIAPPEND CATENATE", run: (*session).append},
		{name: "GETMETADATA", in: in, after: tellAll, caps: "METADATA METADATA-SERVER LIST-METADATA", run: handle((*imap.Decoder).ExpectGetMetadata, (*session).getMetadata)},
		{name: "RESETKEY", in: in, after: tellAll, caps: "URLAUTH URLAUTH=BINARY URL-PARTIAL", run: (*session).resetKey},
		{name: "GENURLAUTH", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectGenURLAuth, (*session).genURLAuth)},
		{name: "URLFETCH", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectURLFetch, (*session).urlFetch)},
		{name: "NOTIFY", in: in, after: tellAll, caps: "NOTIFY", run: handle((*imap.Decoder).ExpectNotify, (*session).notifyCommand)},
		{name: "SETMETADATA", in: in, after: tellAll, run: (*session).setMetadata},

		{name: "SETACL", in: in, after: tellAll, caps: "ACL RIGHTS=kxte LIST-MYRIGHTS", run: handle((*imap.Decoder).ExpectSetACL, (*session).setACL)},
		{name: "DELETEACL", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectACL, (*session).deleteACL)},
		{name: "GETACL", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).getACL)},
		{name: "LISTRIGHTS", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectACL, (*session).listRights)},
		{name: "MYRIGHTS", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).myRights)},
		{name: "GETQUOTA", in: in, after: tellAll, caps: "QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX", run: handle((*imap.Decoder).ExpectAString, (*session).getQuota)},
		{name: "GETQUOTAROOT", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectMailbox, (*session).getQuotaRoot)},
		{name: "SETQUOTA", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectSetQuota, (*session).setQuota)},
		{name: "SELECT", in: in, caps: "QRESYNC", run: handle((*imap.Decoder).ExpectSelect, (*session).selectCommand)},
		{name: "EXAMINE", in: in, run: handle((*imap.Decoder).ExpectSelect, (*session).examine)},
		{name: "CLOSE", in: selected, run: bare((*session).closeMailbox)},
		{name: "UNSELECT", in: selected, caps: "UNSELECT", run: bare((*session).unselect)},
		{name: "CHECK", in: selected, after: tellAll, run: bare((*session).noop)},
		{name: "EXPUNGE", in: selected, writes: true, after: tellAll, run: bare((*session).expunge)},
		{name: "UID EXPUNGE", in: selected, writes: true, after: tellAll, caps: "UIDPLUS", run: handle((*imap.Decoder).ExpectSeqSet, (*session).uidExpunge)},
		{name: "FETCH", in: selected, after: keepSeqs, caps: "BINARY CONDSTORE OBJECTID OBJECTID+ PREVIEW", run: handle((*imap.Decoder).ExpectFetch, (*session).fetch)},
		{name: "UID FETCH", in: selected, after: tellAll, run: handle((*imap.Decoder).ExpectFetch, (*session).fetch)},
		{name: "STORE", in: selected, writes: true, after: keepSeqs, caps: "X-GM-EXT-1 ANNOTATE-EXPERIMENT-1", run: handle((*imap.Decoder).ExpectStore, (*session).store)},
		{name: "UID STORE", in: selected, writes: true, after: tellAll, run: handle((*imap.Decoder).ExpectStore, (*session).store)},
		{name: "SEARCH", in: selected, after: keepSeqs, caps: "ESEARCH SEARCHRES WITHIN SAVEDATE PARTIAL SEARCH=FUZZY FILTERS", run: (*session).searchCommand},
		{name: "UID SEARCH", in: selected, after: tellAll, run: (*session).searchCommand},
		{name: "CANCELUPDATE", in: selected, after: tellAll, caps: "CONTEXT=SEARCH CONTEXT=SORT", run: handle((*imap.Decoder).ExpectCancelUpdate, (*session).cancelUpdate)},
		{name: "COMPARATOR", in: in, after: tellAll, caps: "I18NLEVEL=2", run: (*session).comparatorCommand},
		{name: "ESEARCH", in: in, after: tellAll, caps: "MULTISEARCH", run: (*session).esearchCommand},
		{name: "SORT", in: selected, after: keepSeqs, caps: "SORT SORT=DISPLAY ESORT", run: (*session).sortCommand},
		{name: "UID SORT", in: selected, after: tellAll, run: (*session).sortCommand},
		{name: "THREAD", in: selected, after: keepSeqs, caps: "THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS", run: handle((*imap.Decoder).ExpectThread, (*session).threadCommand)},
		{name: "UID THREAD", in: selected, after: tellAll, run: handle((*imap.Decoder).ExpectThread, (*session).threadCommand)},
		{name: "COPY", in: selected, after: tellAll, run: handle((*imap.Decoder).ExpectCopy, (*session).copyCommand)},
		{name: "UID COPY", in: selected, after: tellAll, run: handle((*imap.Decoder).ExpectCopy, (*session).copyCommand)},
		{name: "MOVE", in: selected, writes: true, after: tellAll, caps: "MOVE", run: handle((*imap.Decoder).ExpectCopy, (*session).move)},
		{name: "REPLACE", in: selected, writes: true, after: tellAll, caps: "REPLACE", run: (*session).replace},
		{name: "UID REPLACE", in: selected, writes: true, after: tellAll, run: (*session).replace},
		{name: "UID MOVE", in: selected, writes: true, after: tellAll, run: handle((*imap.Decoder).ExpectCopy, (*session).move)},
		{name: "UIDBATCHES", in: selected, after: tellAll, caps: "UIDBATCHES", run: handle((*imap.Decoder).ExpectBatches, (*session).uidBatches)},
	}
}

// wrongState says why a command is not possible in a state.
func (r *row) wrongState(now stateSet) string {
	switch {
	case now == fresh:
		return r.name + " is possible after login only"
	case r.in == fresh:
		return r.name + " is not possible after login"
	}
	return r.name + " needs a selected mailbox"
}

// capabilities returns the capability words that hold now (RFC 9051, 6.1.1).
func (s *session) capabilities() string {
	words := []string{"IMAP4rev1", "IMAP4rev2"}
	if s.srv.opt.Legacy {
		words = []string{"IMAP4", "IMAP4rev1", "IMAP4rev2"} // RFC 1730, 6.1.1
	}
	if s.state != fresh {
		// LITERAL+ and LITERAL- exclude each other (RFC 7888, 5).
		limit := fmt.Sprintf("APPENDLIMIT=%d", s.srv.opt.Store.MaxMessage())
		words = append(words, "LITERAL+", s.srv.caps, limit)
		if s.admin {
			words = append(words, "QUOTASET") // RFC 9208, 4.1.3: for whom SETQUOTA works
		}
		return strings.Join(append(words, s.srv.opt.limitCaps()...), " ")
	}
	words = append(words, "LITERAL-", "SASL-IR", "ENABLE", "ID", "LANGUAGE")
	if s.c.CanStartTLS() {
		words = append(words, "STARTTLS")
	}
	if !s.c.MayLogin() {
		words = append(words, "LOGINDISABLED")
	}
	for _, m := range s.offer().Mechanisms() {
		words = append(words, "AUTH="+m)
	}
	return strings.Join(words, " ")
}
