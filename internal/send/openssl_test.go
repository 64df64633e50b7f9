package send

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// OpenSSL is of the same opinion of every pair of a certificate and a set of TLSA records.
func TestDANEAsOpenSSL(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") != "1" {
		t.Skip("MARTLET_PEERS=1 runs it against openssl")
	}
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal(err)
	}
	a, other := newCA(t), newCA(t)
	good, leaf := a.sign("mx1.example.org", time.Hour, true)
	wild, _ := a.sign("*.example.org", time.Hour, true)
	wrong, wrongLeaf := a.sign("elsewhere.test", time.Hour, true)
	old, oldLeaf := a.sign("mx1.example.org", -time.Hour, true)
	bare, bareLeaf := a.sign("mx1.example.org", time.Hour, false)
	shown := map[string]*tls.Config{"good": good, "wildcard": wild, "another name": wrong, "ended": old, "alone": bare}
	sets := map[string][]string{"digests of two strengths": {tlsaOf(3, 1, 1, leaf), tlsaOf(3, 1, 2, wrongLeaf)}}
	for of, cert := range map[string]*x509.Certificate{"leaf": leaf, "wrong": wrongLeaf, "old": oldLeaf, "bare": bareLeaf, "authority": a.cert, "other authority": other.cert} {
		for _, usage := range []int{2, 3} {
			for _, kind := range [][2]int{{0, 1}, {1, 1}, {0, 2}, {1, 2}, {0, 0}, {1, 0}} {
				r := tlsaOf(usage, kind[0], kind[1], cert)
				sets[of+" "+r[:5]] = []string{r}
			}
		}
	}
	agree := 0
	for host, conf := range shown {
		p := &peer{tls: conf, ext: []string{"STARTTLS"}}
		port := peers(t, p)
		for name, set := range sets {
			if name[:4] == "bare" && host != "alone" || name[:3] == "old" && host != "ended" || strings.HasPrefix(name, "other") && host != "good" {
				continue
			}
			if strings.Contains(name, "authority 2 1 0") && host == "alone" {
				continue // a bare key that is in no certificate: OpenSSL tries it on the last of the chain (RFC 7671, 5.2.2: need not be)
			}
			r := once(t, courier(t, port, signedZone(port, set...), func(o *Options) { o.Reuse.Idle = -1 }), envelope("", "a@example.org"))
			args := []string{"s_client", "-starttls", "smtp", "-connect", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))), "-brief",
				"-verify_return_error", "-verify", "9", "-dane_tlsa_domain", "mx1.example.org", "-dane_ee_no_namechecks"}
			for _, r := range set {
				args = append(args, "-dane_tlsa_rrdata", r)
			}
			cmd := exec.Command(program, args...)
			cmd.Stdin = strings.NewReader("QUIT\r\n")
			said, _ := cmd.CombinedOutput()
			theirs := strings.Contains(string(said), "Verification: OK")
			if ours := r.Line.Verified == mail.ProofDANE && r.Code == 250; ours != theirs {
				t.Errorf("%s, %s: ours %v, theirs %v\n%+v\n%s", host, name, ours, theirs, r, said)
			} else if agree++; ours {
				agree += 1000
			}
		}
	}
	if agree%1000 < 100 || agree/1000 < 20 {
		t.Errorf("only %d pairs, %d of them good: the test looks at too little", agree%1000, agree/1000)
	}
}
