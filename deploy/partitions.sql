-- Turn the empty table of predictions into one partition a day, on PostgreSQL, after `plumbline migrate`.
-- Plumbline's own ids (UUIDv7) begin with their time, so the id is the partition key and stays the primary key.
-- Rows under a caller's own ids lie in predictions_other.
BEGIN;

CREATE FUNCTION plumbline_first_id(day date) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(hex, 8) || '-' || right(hex, 4)
    FROM lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0') AS hex
$$;

-- Make the partitions of today and the days after; run it daily, so that they are there before their rows.
CREATE FUNCTION plumbline_add_partitions(days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR ahead IN 0..days LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF predictions FOR VALUES FROM (%L) TO (%L)',
            'predictions_' || to_char(today + ahead, 'YYYYMMDD'),
            plumbline_first_id(today + ahead), plumbline_first_id(today + ahead + 1)
        );
    END LOOP;
END
$$;

ALTER TABLE predictions RENAME TO predictions_empty;
CREATE TABLE predictions (LIKE predictions_empty INCLUDING ALL) PARTITION BY RANGE (prediction_id);
INSERT INTO predictions SELECT * FROM predictions_empty;  -- no partition takes a row yet: this fails unless it is empty
DROP TABLE predictions_empty;
CREATE TABLE predictions_other PARTITION OF predictions DEFAULT;
SELECT plumbline_add_partitions(7);

COMMIT;
