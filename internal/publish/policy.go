package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Policy is the text of a domain's MTA-STS policy (RFC 8461, 3.2), which is served at
// https://mta-sts.DOMAIN/.well-known/mta-sts.txt.
func Policy(s Site, d Domain) string {
	return fmt.Sprintf("version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: %d\r\n", d.Settings.MTASTS, s.Hostname, int64(d.Settings.MTASTSAge/time.Second))
}

// PolicyID is the id by which others see that a policy has changed (RFC 8461, 3.1): it follows
// from the policy.
func PolicyID(policy string) string {
	sum := sha256.Sum256([]byte(policy))
	return hex.EncodeToString(sum[:10])
}
