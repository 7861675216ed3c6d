package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"souk/node/config"
	"souk/node/core/step"
	"souk/node/store"
)

func ledgerCheckCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Read the whole journal and check every frame; the node is down", Args: cobra.NoArgs,
		Long: "Check opens the store of the home as a starting node does, and then reads all of its journal: checksums, the chain of\nhashes, and that it ends where the index says. It needs the node to be down, and changes nothing that a start would not.",
		RunE: does(func(context.Context, []string) error {
			cfg, err := e.journaled()
			if err != nil {
				return err
			}
			s, err := store.Open(cfg.Home, storeOptions())
			if err != nil {
				return err
			}
			return e.checkJournal(cfg, s, "")
		}),
	}
}

func ledgerRebuildCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rebuild", Short: "Make a damaged index again from the journal; the node is down", Args: cobra.NoArgs,
		Long: "Rebuild puts the index of the home (db) aside, as db.damaged- and a number, and makes a new one from the journal, which it\n" +
			"reads and checks whole and does not change. Only what others publish again, offers and beats, is missing afterwards. It\n" +
			"needs the node to be down. Where the journal is damaged itself, or ends before what the index knows of, it refuses: what\n" +
			"this key signed would be forgotten, and it could sign a second time.",
		RunE: does(func(context.Context, []string) error {
			cfg, err := e.journaled()
			if err != nil {
				return err
			}
			if err := rebuildable(cfg.Home); err != nil {
				return err
			}
			before, err := setAside(cfg.Home)
			if err != nil {
				return err
			}
			s, err := store.Rebuild(cfg.Home, storeOptions())
			if err != nil {
				return err
			}
			now, err := setAside(cfg.Home)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			old := ""
			for _, dir := range now {
				if !slices.Contains(before, dir) {
					old = dir
				}
			}
			return e.checkJournal(cfg, s, old)
		}),
	}
}

// storeOptions keep the store quiet: what it finds is told here.
func storeOptions() store.Options { return store.Options{Log: slog.New(slog.DiscardHandler)} }

// journaled reads the settings of a home that has a journal: opening the store of another would make one.
func (e *env) journaled() (config.Config, error) {
	cfg, err := e.load()
	if err != nil {
		return cfg, err
	}
	list, err := filepath.Glob(filepath.Join(cfg.Home, "journal", "*.journal"))
	if err == nil && len(list) == 0 {
		err = step.Fail(step.ProblemNotFound, "a node that was never up has none", "there is no journal in %s", cfg.Home)
	}
	return cfg, err
}

// rebuildable refuses what a new index would make worse: all that Open finds but a damaged index.
func rebuildable(home string) error {
	s, err := store.Open(home, storeOptions())
	var damaged *store.Damaged
	if err == nil {
		return s.Close()
	}
	if errors.As(err, &damaged) && !errors.Is(err, store.ErrQuarantine) {
		return nil
	}
	return err
}

// setAside are the old indexes in a home.
func setAside(home string) ([]string, error) {
	return filepath.Glob(filepath.Join(home, "db.damaged-*"))
}

// checkJournal checks the journal of an open store, closes it, and tells.
func (e *env) checkJournal(cfg config.Config, s *store.Store, old string) error {
	err := s.Check()
	type checked struct {
		Home    string `json:"home"`
		Journal string `json:"journal"`
		Frames  uint64 `json:"frames"`
		Cut     int64  `json:"cut"` // bytes of a torn write
		Old     string `json:"oldIndex,omitempty"`
	}
	c := checked{Home: cfg.Home, Journal: "sound", Frames: s.Position().Number, Cut: s.Recovery().Cut, Old: old}
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	facts := []fact{{"home", c.Home}, {"journal", "sound, " + plural(int(c.Frames), "frame", "frames")}}
	if c.Cut > 0 {
		facts = append(facts, fact{"cut off", strconv.FormatInt(c.Cut, 10) + " bytes of a write that a crash tore"})
	}
	if old != "" {
		facts = append(facts, fact{"index", "made again from the journal"}, fact{"the old one", old})
	}
	if err := e.one(c, strconv.FormatUint(c.Frames, 10), facts...); err != nil || !e.plain() || old == "" {
		return err
	}
	e.note("next: souk up -d; once it is well, the old index can be removed")
	return nil
}
