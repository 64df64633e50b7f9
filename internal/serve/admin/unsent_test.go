package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What there is no JSON for is our mistake, and not a caller who has gone: he would ask again.
func TestWhatCannotBeWrittenIsNotGone(t *testing.T) {
	for _, v := range []any{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), map[string]any{"f": func() {}}, struct{ At time.Time }{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		rec := httptest.NewRecorder()
		r := &request{w: rec}
		if err := r.send(v); !fault.Is(err, fault.Internal) || rec.Body.Len() > 0 {
			t.Errorf("%v: %v, %q", v, err, rec.Body)
		}
	}
	w := &mute{httptest.NewRecorder()}
	if err := (&request{w: w}).send("x"); !fault.Is(err, fault.Closed) { // the control
		t.Error(err)
	}
	if got := failureOf(unsent(w.err())); got.Kind != fault.Closed.String() || !strings.Contains(got.Cause, "nobody") {
		t.Errorf("%+v", got)
	}
}

// mute is a caller who has gone.
type mute struct{ *httptest.ResponseRecorder }

func (m *mute) err() error { return fault.New(fault.Closed, "nobody listens") }

func (m *mute) Write([]byte) (int, error) { return 0, m.err() }
