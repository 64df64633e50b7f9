package imapd

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// compress is COMPRESS (RFC 4978, 3). The answer goes out in the plain, all behind it
// compressed, and so it is with what the client sends.
func (s *session) compress(cmd *command, name string) (reply, error) {
	switch {
	case !strings.EqualFold(name, "DEFLATE"):
		return bad("there is no compression but DEFLATE"), nil
	case s.c.Compressed():
		return no("COMPRESSIONACTIVE", "DEFLATE is active already"), nil
	case s.c.R.Buffered() > 0: // it is to wait for our answer; who can tell what these are
		return reply{}, fatal{fault.New(fault.Limited, "nothing may follow COMPRESS before its answer")}
	}
	s.answer(cmd.tag, ok("begin compression now"))
	if err := s.flush(); err != nil {
		return reply{}, err
	}
	if err := s.c.Compress(); err != nil {
		return reply{}, fatal{err}
	}
	return reply{sent: true}, nil
}

// unauthenticate is UNAUTHENTICATE (RFC 8437, 3): the session is as it was before the
// login, in every respect but TLS. NO is no possible answer.
func (s *session) unauthenticate(cmd *command) (reply, error) {
	s.leave(false)
	s.Close()
	s.c.Log().Info("signed out", "peer", s.c.Peer())
	dec, enc := s.dec, s.enc
	*s = session{srv: s.srv, ctx: s.ctx, c: s.c, dec: dec, enc: enc, state: fresh}
	s.c.SignOut()
	dec.UTF8, enc.UTF8 = false, false
	dec.SetLimits(imap.LoginLimits)
	s.answer(cmd.tag, ok("UNAUTHENTICATE done"))
	if err := s.flush(); err != nil {
		return reply{}, err
	}
	if err := s.c.EndCompress(); err != nil {
		return reply{}, fatal{err}
	}
	return reply{sent: true}, nil
}
