package pop3source

import (
	"strconv"
	"strings"
	"time"
)

// LoginDelay is how long the server wants between two logins (RFC 2449, 6.5), as it said at
// the last one; 0: it did not say.
func (s *Source) LoginDelay() time.Duration { return s.delay }

// longestDelay is the most that is believed.
const longestDelay = 24 * time.Hour

func (c *client) loginDelay() time.Duration {
	word, _, _ := strings.Cut(c.capas["LOGIN-DELAY"], " ")
	n, err := strconv.ParseUint(word, 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, longestDelay)
}
