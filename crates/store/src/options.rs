//! What the database needs of the configuration.

use super::upkeep::UpkeepOptions;
use super::{DatabaseOptions, Granularity, MigrateOptions};
use tallyd_config::{Config, Partition};

impl From<&Config> for DatabaseOptions {
    fn from(config: &Config) -> Self {
        let database = &config.database;
        Self {
            url: database.url.as_ref().map(|url| url.expose().to_owned()),
            data_dir: config.data_dir.clone(),
            ca_file: database.ca_file.clone(),
            password_file: database.password_file.clone(),
            connect_timeout: database.connect_timeout,
            bin_dir: database.embedded_bin_dir.clone(),
        }
    }
}

impl From<Partition> for Granularity {
    fn from(partition: Partition) -> Self {
        match partition {
            Partition::Month => Self::Month,
            Partition::Day => Self::Day,
        }
    }
}

impl From<&Config> for MigrateOptions {
    fn from(config: &Config) -> Self {
        Self {
            reporting_time_zone: Some(config.rollup.time_zone.name().to_owned()),
            granularity: config.log_table.partition.into(),
            partitions_ahead: config.log_table.partitions_ahead,
        }
    }
}

impl From<&Config> for UpkeepOptions {
    fn from(config: &Config) -> Self {
        let table = &config.log_table;
        Self {
            granularity: table.partition.into(),
            partitions_ahead: table.partitions_ahead,
            user_index: table.user_index,
        }
    }
}
