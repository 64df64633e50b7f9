// Package fault is the one error type of Martlet.
//
// An error that crosses a package border is a *Error: a Kind that each protocol
// turns into its own reply code, one sentence that may be shown to the peer, and a
// cause that only the log sees. Inside a package plain errors and %w are fine.
//
// The package does no logging and knows no protocol.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is. Each protocol owns one table from
// Kind to reply code.
type Kind uint8

const (
	Internal        Kind = iota // our mistake; the peer is told nothing but that
	Invalid                     // the request itself is wrong: syntax, argument, state
	Unsupported                 // understood, and not offered here
	Unauthenticated             // who you are is not proven
	Denied                      // proven, and not allowed
	NotFound                    // the thing named does not exist
	Exists                      // the thing to be made is there already
	TooLarge                    // over a fixed limit; trying again will not help
	OverQuota                   // the account's allowance is used up
	Limited                     // too much, too fast: slow down, try again
	Busy                        // in use by somebody else: try again shortly
	Unavailable                 // temporarily impossible (disk full, peer down): try later
	Corrupt                     // stored data failed its check
	Unknown                     // a change may or may not have been made
	Closed                      // the connection, session or store is closing
)

var names = [...]string{
	"internal", "invalid", "unsupported", "unauthenticated", "denied", "not found", "exists",
	"too large", "over quota", "limited", "busy", "unavailable", "corrupt", "unknown", "closed",
}

// String returns the kind in lower-case words, for logs.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Temporary tells whether the same request may succeed later unchanged.
func (k Kind) Temporary() bool {
	switch k {
	case Internal, OverQuota, Limited, Busy, Unavailable, Corrupt, Unknown, Closed:
		return true
	}
	return false
}

// Error is a failure with a kind, a sentence for the peer and a cause for the log.
type Error struct {
	Kind  Kind
	Say   string // one sentence without a final full stop; safe to show to anybody
	Cause error  // never shown to a peer
}

// Error returns kind, sentence and cause: the form for logs.
func (e *Error) Error() string {
	s := e.Kind.String() + ": " + e.Say
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New returns an error of the kind that says the sentence.
func New(kind Kind, say string) *Error { return &Error{Kind: kind, Say: say} }

// Newf is New with a formatted sentence. What is formatted in is shown to the peer.
func Newf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Say: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the kind with a cause for the log.
func Wrap(kind Kind, say string, cause error) *Error {
	return &Error{Kind: kind, Say: say, Cause: cause}
}

// Of returns the kind of the outermost *Error in err's chain. A cancelled or
// expired context is Closed or Unavailable; anything else, and nil, is Internal.
func Of(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Closed
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Internal
}

// Is tells whether err is an error of the kind. It is false for nil.
func Is(err error, kind Kind) bool { return err != nil && Of(err) == kind }

// Say returns the sentence for the peer: that of the outermost *Error, or a
// general one that gives nothing away.
func Say(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Say
	}
	return "internal error, it has been logged"
}
