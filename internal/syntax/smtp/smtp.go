// Package smtp turns bytes into SMTP and LMTP commands, replies and message data,
// and back. The server and the client stand on the same code.
//
// It opens no socket, keeps no time, starts no goroutine and holds no session
// state: which command is allowed when is the server's business, and so is every
// decision about whom to believe. A parser that refuses says so with the Reply the
// server shall send.
//
// Every function takes time linear in its input and memory bounded by the limits
// below.
//
// RFC 5321 (SMTP), 2033 (LMTP), 1870 (SIZE), 3030 (CHUNKING, BINARYMIME), 3461 and
// 6533 (DSN parameters), 4954 (AUTH), 6152 (8BITMIME), 6531 (SMTPUTF8), 2034
// (enhanced codes).
package smtp

// Limits, in bytes with CRLF.
const (
	// MaxCommand bounds a command line: 512 (RFC 5321, 4.5.3.1.4) plus the room
	// that extensions ask for (RFC 1870, 3: 26; 3461, 4: 120 and 528; 4954, 3: 500;
	// 6152, 2: 17; 6531, 3.1: 10), doubled for SMTPUTF8 paths.
	MaxCommand = 2 << 10

	// MaxAuth bounds a line of an AUTH exchange (RFC 4954, 4).
	MaxAuth = 12288

	// maxSkip is how much of an overlong line is read on, looking for its end,
	// before the peer is given up.
	maxSkip = 64 << 10

	// Limits of a reply that we read as a client. RFC 5321, 4.5.3.1.5 allows 512
	// bytes a line; some servers put a whole paragraph of advice on one.
	maxReplyLine  = 4 << 10
	maxReplyLines = 200
	maxReplyText  = 32 << 10
)
