package postgres

import (
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// TestUnknownIsSaid: an Update whose commit was sent, and whose outcome could not be found out since
// the database went away, says so. Any other kind would say that nothing was written.
func TestUnknownIsSaid(t *testing.T) {
	s := pgtest.SharedServer(t)
	s.Schema(t, "unknown")
	e, p := wired(t, s, "unknown", func(o *Options) { o.Patience = time.Second })
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	p.Refuse(true)                // new connections
	p.CutAt("m_guarded", true, 1) // it arrives, and the answer is lost
	err := e.Update(t.Context(), 1, add)
	p.Refuse(false)
	if !fault.Is(err, fault.Unknown) {
		t.Errorf("the kind is %v, which says that nothing was written: %v", fault.Of(err), err)
	}
	if n := number1(t, e); n != 2 {
		t.Errorf("the number is %d: nothing was in doubt, the test proves nothing", n)
	}
}

// TestOpenRefusal: a server that answers a commit by saying that it does not know what became of it
// has not refused it: that is settled.
func TestOpenRefusal(t *testing.T) {
	s := pgtest.SharedServer(t)
	s.Schema(t, "ambiguous")
	e := open(t, options(s.URL()+" search_path=ambiguous"))
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Fatal(err)
	}
	err := s.SQL("CREATE SEQUENCE ambiguous.times", `CREATE FUNCTION ambiguous.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.key = 'n' AND nextval('ambiguous.times') <= 2 THEN
			RAISE EXCEPTION 'result is ambiguous' USING ERRCODE = CASE WHEN currval('ambiguous.times') = 1 THEN '40003' ELSE '08007' END; END IF;
		RETURN NEW; END $$`, "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON ambiguous.kv FOR EACH ROW EXECUTE FUNCTION ambiguous.fail()")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Update(t.Context(), 1, add); err != nil {
		t.Error(err)
	}
	if doubts := e.Stats().Doubts.Load(); doubts != 2 {
		t.Errorf("%d were in doubt, not 2", doubts)
	}
	if n := number1(t, e); n != 2 {
		t.Errorf("%d, not 2", n)
	}
}
