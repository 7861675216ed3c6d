package simnet

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/ledger"
	"souk/p2p/member"
)

// cheating is a small world in which one of the consumers, one of the hosts, or the bank cheats; every other one has faults too.
func cheating(seed uint64, c Cheat) Options {
	o := Options{Hosts: 2, Consumers: 3, Hours: 1.5, Seed: seed, Cheats: []Cheat{c}}
	if seed%2 == 0 {
		o.Faults = Heavy()
	}
	return o
}

// crowd is a world in which everybody but a few cheats, each in a way of its own.
func crowd(seed uint64) Options {
	o := Options{Hosts: 7, Consumers: 10, Hours: 1.5, Seed: seed, Cheats: Cheats(), Faults: Light()}
	if seed%3 == 0 {
		o.Faults = Heavy()
	}
	return o
}

// share reports whether there are so many seeds that the cheats divide them among themselves.
func share() bool { return *seedsFlag != "" && !strings.Contains(*seedsFlag, ",") }

func headline(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// Each cheat is tried, in a world with faults and in one without, and nobody loses more by it than the rules say.
func TestCheatsOneByOne(t *testing.T) {
	for _, c := range Cheats() {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			all := Tally{Tricks: map[string]int{}}
			for _, seed := range seeds(t, 2) {
				if share() && seed%uint64(len(Cheats())) != uint64(c-1) {
					continue
				}
				r, err := Run(cheating(seed, c))
				if err != nil {
					t.Error(headline(err))
					continue
				}
				for _, x := range r.Cheats {
					all.Tried += x.Tried
					for name, n := range x.Tricks {
						all.Tricks[name] += n
					}
					t.Logf("seed %d: %+v in %v", seed, x, r.Wall.Round(time.Millisecond))
				}
			}
			if all.Tried == 0 && *seedsFlag == "" {
				t.Error("it was never tried")
			}
			if n := len(all.Tricks); c == CheatMeddle && n < 25 && *seedsFlag == "" {
				t.Errorf("only %d kinds of bad input were sent: %v", n, all.Tricks)
			}
		})
	}
}

// All at once, among a few who are honest.
func TestCheatsTogether(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		r, err := Run(crowd(seed))
		if err != nil {
			t.Error(headline(err))
			continue
		}
		t.Logf("seed %d in %v: %d leases, %d billed minutes, %v the most that one start had for nothing", seed, r.Wall.Round(time.Millisecond), r.Leases, r.Billed, r.WorstFree)
		for _, x := range r.Cheats {
			t.Logf("  %+v", x)
		}
	}
}

// While the bank is gone for thirty hours, what has an hour set aside runs for that hour, and what has a day for that day, both
// but for the ten minutes under which pods stop.
func TestBankGoneForThirtyHours(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		r, err := Run(Options{Hosts: 2, Consumers: 2, Hours: 33, Seed: seed, Cheats: []Cheat{CheatBankGone}})
		if err != nil {
			t.Error(headline(err))
			continue
		}
		ran := slices.Sorted(slices.Values(r.Cheats[0].Ran))
		t.Logf("seed %d in %v: %v", seed, r.Wall.Round(time.Millisecond), ran)
		if len(ran) != 2 || ran[0] < 48*time.Minute || ran[0] > 61*time.Minute || ran[1] < 23*time.Hour+30*time.Minute || ran[1] > 24*time.Hour {
			t.Errorf("seed %d: pods ran on for %v, want about 50m and 23h40m", seed, ran)
		}
	}
}

// In a small market that nothing is wrong with, no host takes a consumer's silence for its own being cut off.
func TestSilenceOfOneIsNotTakenForACut(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		r, err := Run(Options{Hosts: 1, Consumers: 2, Hours: 2, Seed: seed, Cheats: []Cheat{CheatSilent}})
		if err != nil {
			t.Error(headline(err))
		}
		if r.Minutes["unreachable"] != 0 || r.Cheats[0].Tried == 0 {
			t.Errorf("seed %d: %d minutes are unreachable; the consumer was silent %d times", seed, r.Minutes["unreachable"], r.Cheats[0].Tried)
		}
	}
}

// A pod whose consumer is silent and whose host no witness sees, though others do, runs for an hour and no longer; what witnesses see
// is paid.
func TestSilenceUnderAMandate(t *testing.T) {
	longest, mandated := time.Duration(0), int64(0)
	for _, seed := range seeds(t, 3) {
		r, err := Run(Options{Hosts: 2, Consumers: 2, Hours: 3, Seed: seed, Cheats: []Cheat{CheatSilentUnseen}})
		if err != nil {
			t.Error(headline(err))
			continue
		}
		t.Logf("seed %d in %v: minutes %v, %d mandated, %+v", seed, r.Wall.Round(time.Millisecond), r.Minutes, r.Mandated, r.Cheats)
		if n := r.Minutes["unreachable"]; n != 0 {
			t.Errorf("seed %d: %d minutes are unreachable; the host was heard all the time", seed, n)
		}
		longest, mandated = max(longest, r.Cheats[0].Worst), mandated+r.Mandated
	}
	if longest < (mostUnseen+1)*time.Minute || longest > (mostUnseen+2)*time.Minute || mandated == 0 {
		t.Errorf("a pod ran unseen for %v at most, want 61 minutes and the moment after; %d minutes were mandated", longest, mandated)
	}
}

// A mandate pays for a day without a voucher; then the pod stops. The last minutes before the silence may be attended and not vouched
// for.
func TestMandateEndsAfterADay(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		r, err := Run(Options{Hosts: 2, Consumers: 2, Hours: 26, Seed: seed, Cheats: []Cheat{CheatSilentUnseen}})
		if err != nil {
			t.Error(headline(err))
			continue
		}
		dark := r.Minutes["unobserved"]
		t.Logf("seed %d in %v: minutes %v, %d mandated, %+v", seed, r.Wall.Round(time.Millisecond), r.Minutes, r.Mandated, r.Cheats)
		if sum := r.Mandated + dark; sum < ledger.MaxUnattended-5 || sum > ledger.MaxUnattended || dark == 0 || r.Minutes["unattended"] == 0 {
			t.Errorf("seed %d: %d minutes were mandated and %d unobserved, want a day of both, and then one unattended", seed, r.Mandated, dark)
		}
	}
}

func TestCheatsGiveOneTrace(t *testing.T) {
	var runs [2]Report
	for i := range runs {
		r, err := Run(crowd(3))
		if err != nil {
			t.Fatal(headline(err))
		}
		r.Wall = 0
		runs[i] = r
	}
	if !reflect.DeepEqual(runs[0], runs[1]) {
		t.Errorf("one seed twice:\n%+v\n%+v", runs[0], runs[1])
	}
}

func TestCheatsAreNamed(t *testing.T) {
	for _, c := range Cheats() {
		if got, err := ParseCheats(c.String()); err != nil || !slices.Equal(got, []Cheat{c}) {
			t.Errorf("%v reads as %v, %v", c, got, err)
		}
	}
	if all, err := ParseCheats("all"); err != nil || len(all) != len(Cheats()) {
		t.Errorf("all: %v, %v", all, err)
	}
	if none, err := ParseCheats("none"); err != nil || none != nil {
		t.Errorf("none: %v, %v", none, err)
	}
	if _, err := ParseCheats("silence"); err == nil || !strings.Contains(err.Error(), "silent-consumer") {
		t.Errorf("a name that there is not: %v", err)
	}
}

func TestStreakGrows(t *testing.T) {
	var s streak
	var pauses []member.Time
	for i := range 12 {
		at := member.Time(i) * member.Day
		s.add(at, 3)
		pauses = append(pauses, max(0, s.until-at))
	}
	want := []member.Time{0, 0, 0, minute, 2 * minute, 4 * minute, 8 * minute, 16 * minute, 32 * minute, member.Hour, member.Hour, member.Hour}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
}
