-- Sites over ssh with batch systems: why a site takes nothing now, and what batch systems say of pilots.
ALTER TABLE site ADD COLUMN paused TEXT;
ALTER TABLE site ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pilot ADD COLUMN word TEXT;
ALTER TABLE pilot ADD COLUMN said TEXT;
ALTER TABLE pilot ADD COLUMN never TEXT;
ALTER TABLE pilot ADD COLUMN never_since REAL;
ALTER TABLE pilot ADD COLUMN others TEXT;
CREATE INDEX pilot_made ON pilot (site, made);
