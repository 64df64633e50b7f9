package sasl

import (
	"encoding/base64"

	"github.com/martlet-mail/martlet/internal/fault"
)

// MaxLine bounds a line that carries a response: MaxResponse in base64.
const MaxLine = (MaxResponse + 2) / 3 * 4

// ErrCancelled is what Decode returns for "*": the client gave up (RFC 4954, 4;
// RFC 9051, 6.2.2; RFC 5034, 4).
var ErrCancelled error = fault.New(fault.Invalid, "authentication cancelled")

// Decode reads a line that answers a challenge, without its CRLF. The result is
// never nil unless err is not.
func Decode(line []byte) ([]byte, error) {
	if len(line) == 1 && line[0] == '*' {
		return nil, ErrCancelled
	}
	if len(line) > MaxLine {
		return nil, fault.New(fault.TooLarge, "authentication response is too long")
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(out, line)
	if err != nil || hasBreak(line) {
		return nil, fault.Wrap(fault.Invalid, "authentication response is not base64", err)
	}
	return out[:n], nil
}

// DecodeInitial reads the initial response of an AUTH or AUTHENTICATE command, where
// "=" stands for an empty one (RFC 4954, 4; RFC 4959, 3; RFC 5034, 4).
func DecodeInitial(arg []byte) ([]byte, error) {
	if len(arg) == 1 && arg[0] == '=' {
		return []byte{}, nil
	}
	if len(arg) == 0 {
		return nil, fault.New(fault.Invalid, "initial response is empty")
	}
	return Decode(arg)
}

// Encode writes a challenge as the text of its line.
func Encode(challenge []byte) string { return base64.StdEncoding.EncodeToString(challenge) }

// hasBreak finds the line breaks that the base64 decoder would skip.
func hasBreak(line []byte) bool {
	for _, c := range line {
		if c == '\r' || c == '\n' {
			return true
		}
	}
	return false
}
